package policy

import (
	"fmt"
	"slices"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// Problem is a finding in a policy. Line and Column count from 1 and are zero
// outside Rego text.
type Problem struct {
	Field        string
	Line, Column int
	Message      string
	Warning      bool   // the policy works, but likely not as meant
	Check        string // of a warning: what found it
	Rule         string // the id of the rule it is in, if it is in one
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Field + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.Field, p.Line, p.Column, p.Message)
}

// Validate says what is wrong with a policy, disabled rules included. A policy
// without problems, or with warnings only, compiles.
func (c *Compiler) Validate(p *policyv1.Policy) []Problem {
	defer c.take()()
	t := c.translator()
	one, problems := c.policy(t, "", p, false)
	if one.rego == nil && p.GetRego() == "" {
		problems = append(problems, c.disabled(one, p)...)
	}
	if from, until := p.GetEffectiveAt(), p.GetExpiresAt(); from != nil && until != nil && !from.AsTime().Before(until.AsTime()) {
		problems = append(problems, Problem{Field: "expires_at", Message: "expires_at is not after effective_at"})
	}
	if len(problems) == 0 && len(t.lines) > 0 {
		if _, err := c.unit(t); err != nil {
			problems = append(problems, Problem{Field: "rules", Message: err.Error()})
		}
	}
	if !slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning }) {
		problems = append(problems, lint(p, c.backends)...)
	}
	for i := range problems {
		problems[i].Rule = ruleAt(p, problems[i].Field)
	}
	return problems
}

// ruleAt is the id of the rule that a path leads into, "" if it leads nowhere.
func ruleAt(p *policyv1.Policy, path string) string {
	var i int
	if _, err := fmt.Sscanf(path, "rules[%d]", &i); err != nil || i < 0 || i >= len(p.GetRules()) {
		return ""
	}
	return p.GetRules()[i].GetRuleId()
}

// disabled looks at the rules that are not compiled because they are off.
func (c *Compiler) disabled(one *compiled, p *policyv1.Policy) (problems []Problem) {
	off := &compiled{source: p, level: one.level}
	for i, r := range p.GetRules() {
		if !r.GetEnabled() {
			off.rules = append(off.rules, &rule{id: r.GetRuleId(), source: r, index: i})
		}
	}
	return off.translate(c.translator())
}

// Format writes Rego as OPA's formatter does; "" if there is none that parses.
func Format(rego string) string {
	if rego == "" {
		return ""
	}
	return sandbox.Format(rego)
}
