package policy

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// Set is every active policy of a tenant at one version, compiled. It is
// immutable and safe for concurrent use; what Evaluate returns shares messages
// with it, so callers must not change them.
type Set struct {
	tenant   string
	version  int64
	settings *configv1.TenantSettings
	fallback governancev1.Decision
	zone     *time.Location
	policies []*compiled // in the order of evaluation
	unit     *unit       // the structured rules of all of them; nil without any
	shadows  []*shadow
	tools    tools
	history  []*governancev1.Obligation // defines the counters that policies ask about
	budgets  []string                   // names that policies ask about as budgets
	watched  []watched                  // histories of fields that policies ask about
	asks     bool                       // some policy has questions
	turns    chan struct{}              // taken while the tenant's Rego runs
}

// Version returns the version of the bundle that s was compiled from.
func (s *Set) Version() int64 { return s.version }

// compiled is one policy.
type compiled struct {
	source      *policyv1.Policy // once compiled, without its rules and its Rego
	whole       []byte           // the policy as published, to compile it alone
	level       policyv1.EnforcementLevel
	failOpen    bool
	from, until int64 // Unix nanoseconds; zero means open
	rules       []*rule
	first       int // number of rules[0] in the unit of the set
	rego        *regoPolicy
	questions   []Question
	spikes      []need // that its rules look for
	broken      string // why it cannot be evaluated at all
	unchecked   error  // why that is not known
	skipped     *policyenginev1.PolicyResult
	stopped     *policyenginev1.PolicyResult

	alone func() (*unit, error) // its rules by themselves, compiled when first needed
}

func (p *compiled) shadow() bool {
	return p.level == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_AUDIT
}

// enforced is what a decision becomes at the policy's level. A WARN policy never
// does more than warn.
func (p *compiled) enforced(d governancev1.Decision) governancev1.Decision {
	if p.level == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_WARN && d > governancev1.Decision_DECISION_WARN {
		return governancev1.Decision_DECISION_WARN
	}
	return d
}

// BrokenError says that policies of a bundle do not compile, by their ids, or
// the schemas of tools, by "tool " and their names.
type BrokenError struct{ Problems map[string][]Problem }

func (e *BrokenError) Error() string {
	var parts []string
	for id, problems := range e.Problems {
		first := slices.IndexFunc(problems, func(p Problem) bool { return !p.Warning })
		if !strings.HasPrefix(id, "tool ") {
			id = "policy " + id
		}
		parts = append(parts, fmt.Sprintf("%s: %s", id, problems[first]))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// Compile builds a Set for the tenant. With policies that do not compile it
// returns a *BrokenError together with a Set in which they always fail, for a
// caller that has nothing better; any other error comes without a Set.
func (c *Compiler) Compile(tenant string, b *configv1.PolicyBundle) (*Set, error) {
	if b.GetTenantId() != tenant {
		return nil, fmt.Errorf("compile policies: the bundle is of tenant %q, not %q", b.GetTenantId(), tenant)
	}
	defer c.take()()
	settings := b.GetSettings()
	s := &Set{
		tenant: tenant, version: b.GetVersion(), settings: settings,
		fallback: settings.GetDefaultDecision(), zone: time.UTC,
		turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	if s.fallback == governancev1.Decision_DECISION_UNSPECIFIED {
		s.fallback = governancev1.Decision_DECISION_ALLOW
	}
	if name := settings.GetTimeZone(); name != "" {
		zone, err := time.LoadLocation(name)
		if err != nil {
			return nil, fmt.Errorf("compile policies: time zone %q: %w", name, err)
		}
		s.zone = zone
	}
	broken := &BrokenError{Problems: map[string][]Problem{}}
	s.tools = c.tools(b, broken)
	t := c.translator()
	for _, p := range inOrder(b.GetPolicies()) {
		one, problems := c.policy(t, tenant, p, settings.GetFailOpen())
		if one.unchecked != nil {
			return nil, fmt.Errorf("compile policy %s: %w", p.GetPolicyId(), one.unchecked)
		}
		if one.broken != "" {
			broken.Problems[p.GetPolicyId()] = problems
		}
		s.policies = append(s.policies, one)
	}
	if len(t.lines) > 0 {
		u, err := c.unit(t)
		s.unit = u
		if err != nil {
			// Our translation of one of them is at fault. Without a unit each is
			// judged by itself, so that the others do not suffer.
			s.blame(broken)
		}
	}
	s.shadows = c.shadows(b, s.zone)
	s.history = s.counters(t)
	s.watch(t)
	s.budgets = s.budgetNames(t)
	for _, p := range s.policies {
		s.asks = s.asks || len(p.questions) > 0
		if err := p.slim(); err != nil {
			return nil, err
		}
	}
	if len(broken.Problems) > 0 {
		return s, broken
	}
	return s, nil
}

// blame finds the policies whose rules do not compile by themselves.
func (s *Set) blame(broken *BrokenError) {
	for _, p := range s.policies {
		if p.alone == nil || p.broken != "" {
			continue
		}
		if _, err := p.alone(); err != nil {
			problems := []Problem{{Field: "rules", Message: err.Error()}}
			p.breakIf(problems)
			broken.Problems[p.source.GetPolicyId()] = problems
		}
	}
}

// Empty is the Set of a tenant that has no policies.
func Empty(tenant string) *Set {
	return &Set{tenant: tenant, fallback: governancev1.Decision_DECISION_ALLOW, zone: time.UTC}
}

// inOrder returns the active policies as they are evaluated: higher priority
// first, then older first, as their ids are time-ordered.
func inOrder(all []*policyv1.Policy) []*policyv1.Policy {
	var active []*policyv1.Policy
	for _, p := range all {
		if s := p.GetStatus(); s == policyv1.PolicyStatus_POLICY_STATUS_ACTIVE || s == policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED {
			active = append(active, p)
		}
	}
	slices.SortStableFunc(active, func(a, b *policyv1.Policy) int {
		return cmp.Or(cmp.Compare(b.GetPriority(), a.GetPriority()), cmp.Compare(a.GetPolicyId(), b.GetPolicyId()))
	})
	return active
}

// policy compiles p, its structured rules into t.
func (c *Compiler) policy(t *translator, tenant string, p *policyv1.Policy, failOpen bool) (*compiled, []Problem) {
	one := &compiled{
		source: p, level: p.GetEnforcement(),
		failOpen: p.GetFailureMode() == policyv1.FailureMode_FAILURE_MODE_ALLOW ||
			failOpen && p.GetFailureMode() == policyv1.FailureMode_FAILURE_MODE_UNSPECIFIED,
		skipped: skippedResult(p, "out of scope"), stopped: skippedResult(p, "an earlier policy denied"),
	}
	if at := p.GetEffectiveAt(); at != nil {
		one.from = at.AsTime().UnixNano()
	}
	if at := p.GetExpiresAt(); at != nil {
		one.until = at.AsTime().UnixNano()
	}
	if p.GetRego() != "" {
		problems := c.rego(tenant, one)
		one.breakIf(problems)
		return one, problems
	}
	one.rules = one.order(p.GetRules())
	one.first = t.rules
	problems := one.translate(t)
	one.breakIf(problems)
	one.alone = sync.OnceValues(func() (*unit, error) { return c.alone(one) })
	return one, problems
}

// alone compiles the rules of p by themselves.
func (c *Compiler) alone(p *compiled) (*unit, error) {
	published, err := p.published()
	if err != nil {
		return nil, err
	}
	again, own := &compiled{source: published, level: p.level}, c.translator()
	again.rules = again.order(published.GetRules())
	again.translate(own)
	return c.unit(own)
}

// published is p as it was published, also after slim.
func (p *compiled) published() (*policyv1.Policy, error) {
	if p.whole == nil {
		return p.source, nil
	}
	whole := &policyv1.Policy{}
	if err := proto.Unmarshal(p.whole, whole); err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return whole, nil
}

// slim drops what only compiling needs: a rule as a message takes more memory
// than all that is made of it.
func (p *compiled) slim() error {
	whole, err := proto.Marshal(p.source)
	if err != nil {
		return fmt.Errorf("keep policy: %w", err)
	}
	p.whole = whole
	for _, r := range p.rules {
		r.source = nil
	}
	p.source = &policyv1.Policy{
		PolicyId: p.source.GetPolicyId(), Name: p.source.GetName(), Version: p.source.GetVersion(), Scope: p.source.GetScope(),
	}
	return nil
}

func (p *compiled) breakIf(problems []Problem) {
	for _, problem := range problems {
		if !problem.Warning {
			p.broken = "does not compile: " + problem.String()
			return
		}
	}
}

// order returns the enabled rules, higher priority first.
func (p *compiled) order(all []*policyv1.PolicyRule) []*rule {
	var rules []*rule
	for i, r := range all {
		if r.GetEnabled() {
			rules = append(rules, &rule{id: r.GetRuleId(), source: r, index: i})
		}
	}
	slices.SortStableFunc(rules, func(a, b *rule) int {
		return cmp.Compare(b.source.GetPriority(), a.source.GetPriority())
	})
	return rules
}

// translate adds p's rules to t and prepares what each of them answers.
func (p *compiled) translate(t *translator) []Problem {
	mark, first, asked := len(t.problems), len(t.lines), len(t.questions)
	t.policy, t.spikes = p.source.GetPolicyId(), nil
	defer func() {
		p.questions = t.questions[asked:len(t.questions):len(t.questions)]
		p.spikes = t.spikes
	}()
	scope := t.scope(p.source.GetScope())
	for _, r := range p.rules {
		path := fmt.Sprintf("rules[%d]", r.index)
		switch {
		case len(t.lines) > maxTenantLines:
			t.problem(path, fmt.Errorf("the tenant's rules unfold into more than %d alternatives", maxTenantLines))
			return t.problems[mark:]
		case len(t.lines)-first > maxPolicyLines:
			t.problem(path, fmt.Errorf("the policy's rules unfold into more than %d alternatives", maxPolicyLines))
			return t.problems[mark:]
		}
		t.rule(path, scope, r.source)
		outcome, problems := p.outcome(r.source)
		for _, problem := range problems {
			problem.Field = path + "." + problem.Field
			t.problems = append(t.problems, problem)
		}
		r.outcome = outcome
	}
	return t.problems[mark:]
}

func skippedResult(p *policyv1.Policy, why string) *policyenginev1.PolicyResult {
	return &policyenginev1.PolicyResult{
		PolicyId: p.GetPolicyId(), PolicyName: p.GetName(), Version: p.GetVersion(),
		Outcome: policyenginev1.PolicyOutcome_POLICY_OUTCOME_SKIPPED, Error: why,
	}
}
