package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// regoPackage is the package every Rego policy has.
const regoPackage = "fulcrum.policy"

// answerSet is a set that a Rego policy may define, and what an element decides.
type answerSet struct {
	name     string
	decision governancev1.Decision
}

var answerSets = []answerSet{
	{"deny", governancev1.Decision_DECISION_DENY},
	{"require_approval", governancev1.Decision_DECISION_REQUIRE_APPROVAL},
	{"warn", governancev1.Decision_DECISION_WARN},
	{"allow", governancev1.Decision_DECISION_ALLOW},
	{"obligations", governancev1.Decision_DECISION_UNSPECIFIED},
}

var answerNames = func() (names sandbox.Answers) {
	for _, a := range answerSets {
		names = append(names, a.name)
	}
	return names
}()

// regoProgram is a tenant's module, ready to ask for the sets it defines.
type regoProgram struct {
	query    *sandbox.Query
	sets     []answerSet
	warnings []Problem
	limits   []map[string]string // parameters of those that are written out
	budgets  []string            // names of those that it may ask about
}

// regoPolicy is a program in the service of one policy. The breaker is that of
// the policy's version: a new version of the tenant's other policies finds it
// as it was.
type regoPolicy struct {
	*regoProgram
	breaker *sandbox.Breaker
}

const (
	// regoDeadline bounds one evaluation of a tenant's code.
	regoDeadline = 20 * time.Millisecond
	// regoAttempts is how often it may run into it: on a crowded machine time
	// passes in which nothing runs.
	regoAttempts = 2
)

// problemsError carries what is wrong with a module through the cache.
type problemsError []Problem

func (e problemsError) Error() string { return e[0].String() }

func (c *Compiler) rego(tenant string, p *compiled) []Problem {
	if len(p.source.GetRules()) > 0 {
		return []Problem{{Field: "rules", Message: "a policy has rules or rego, not both"}}
	}
	program, err := c.regos.get(p.source.GetRego(), c.compileRego)
	if err != nil {
		var problems problemsError
		if errors.As(err, &problems) {
			return problems
		}
		if errors.Is(err, errUnchecked) {
			p.unchecked = err
		}
		return []Problem{{Field: "rego", Message: err.Error()}}
	}
	version := fmt.Sprintf("%q %q %d %q", tenant, p.source.GetPolicyId(), p.source.GetVersion(), p.source.GetRego())
	breaker, err := c.breakers.get(version, func(string) (*sandbox.Breaker, error) { return &sandbox.Breaker{}, nil })
	if err != nil {
		return []Problem{{Field: "rego", Message: err.Error()}}
	}
	p.rego = &regoPolicy{program, breaker}
	return program.warnings
}

// errUnchecked says that nothing is known of a module, neither good nor bad.
var errUnchecked = errors.New("the module could not be checked, try again")

func (c *Compiler) compileRego(text string) (*regoProgram, error) {
	if c.check != nil {
		found, err := c.check.Check(regoPackage, text, answerNames)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnchecked, err)
		}
		if slices.ContainsFunc(found, func(p sandbox.Problem) bool { return !p.Warning }) {
			return nil, problemsError(fromSandbox(found))
		}
	}
	return compileRego(text)
}

func fromSandbox(found []sandbox.Problem) (problems []Problem) {
	for _, p := range found {
		problems = append(problems, Problem{Field: "rego", Line: p.Line, Column: p.Column, Message: p.Message, Warning: p.Warning, Check: p.Check})
	}
	return problems
}

func compileRego(text string) (*regoProgram, error) {
	m, found := sandbox.Compile(regoPackage, text)
	if m == nil {
		return nil, problemsError(fromSandbox(found))
	}
	limits, problems := literalLimits(m.Rules())
	if len(problems) > 0 {
		return nil, problemsError(problems)
	}
	p := &regoProgram{limits: limits}
	if strings.Contains(text, "budget") {
		p.budgets = literalBudgets(m.Rules())
	}
	var names []string
	for _, r := range m.Rules() {
		head := r.Head.Ref()
		name := head[0].String()
		i := slices.IndexFunc(answerSets, func(a answerSet) bool { return a.name == name })
		if i < 0 {
			continue
		}
		if r.Default || len(head) != 1 || r.Head.RuleKind() != ast.MultiValue {
			return nil, problemsError{{
				Field: "rego", Line: r.Loc().Row, Column: r.Loc().Col,
				Message: fmt.Sprintf("%s must be a set: write \"%s contains msg if { ... }\"", name, name),
			}}
		}
		if !slices.Contains(names, name) {
			names, p.sets = append(names, name), append(p.sets, answerSets[i])
		}
	}
	if len(names) == 0 {
		return nil, problemsError{{Field: "rego", Line: 1, Column: 1, Message: "the module decides nothing: define deny, require_approval, warn, allow or obligations"}}
	}
	for _, w := range m.Lint(answerNames, knownPath) {
		p.warnings = append(p.warnings, Problem{Field: "rego", Line: w.Line, Column: w.Column, Message: w.Message, Warning: true, Check: w.Check})
	}
	var err error
	if p.query, err = m.Query(names...); err != nil {
		return nil, err
	}
	m.Slim()
	return p, nil
}

// run evaluates p and returns its entries as outcomes.
func (r *regoPolicy) run(ctx context.Context, p *compiled, input *ast.Term, end time.Time, covered *sandbox.Coverage) ([]*entry, error) {
	var values []ast.Value
	err := sandbox.ErrTimeout
	for attempt := 0; attempt < regoAttempts && errors.Is(err, sandbox.ErrTimeout); attempt++ {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		values, err = r.query.Run(ctx, input, sandbox.Limits{Deadline: min(regoDeadline, left), Hard: left, Breaker: r.breaker, Coverage: covered})
	}
	if errors.Is(err, sandbox.ErrTimeout) {
		r.breaker.TimedOut(time.Now())
	}
	if err != nil {
		return nil, err
	}
	var out []*entry
	for i, v := range values {
		e := r.sets[i]
		set, ok := v.(ast.Set)
		if !ok {
			return nil, fmt.Errorf("%s gave no set", e.name)
		}
		if set.Len() > maxEntries {
			return nil, fmt.Errorf("%s has %d elements, at most %d are allowed", e.name, set.Len(), maxEntries)
		}
		for _, t := range set.Slice() {
			one, err := p.entry(e.name, e.decision, t)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		}
	}
	return out, nil
}
