package policy

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// slowRules is how many rules OPA may have to look at one by one.
const slowRules = 200

// lint warns of what compiles and is likely not meant. p has no errors.
func lint(p *policyv1.Policy, b Backends) (out []Problem) {
	l := &linter{policy: p, lines: newTranslator(b)}
	l.whole()
	l.order()
	for _, r := range l.rules {
		l.rule(r)
	}
	if l.unindexed > slowRules {
		l.warn("rules", "slow-policy", "%d rules have no EQUALS or IN that finds them by its value: each decision looks at all of them", l.unindexed)
	}
	return l.found
}

// linter looks at one policy.
type linter struct {
	policy    *policyv1.Policy
	rules     []*linted // enabled ones, in the order of evaluation
	lines     *translator
	unindexed int
	found     []Problem
}

// linted is a rule with what there is to know of it.
type linted struct {
	source     *policyv1.PolicyRule
	path       string
	conditions []string // canonical
	decision   governancev1.Decision
	duties     bool // it has obligations
	terminal   bool
}

func (l *linter) warn(path, check, format string, a ...any) {
	l.found = append(l.found, Problem{Field: path, Check: check, Message: fmt.Sprintf(format, a...), Warning: true})
}

// whole looks at the policy as such.
func (l *linter) whole() {
	p := l.policy
	one := &compiled{source: p}
	for _, r := range one.order(p.GetRules()) {
		l.rules = append(l.rules, l.know(r))
	}
	if len(p.GetRules()) > 0 && len(l.rules) == 0 {
		l.warn("rules", "nothing-enabled", "no rule is enabled: the policy decides nothing")
	}
	if p.GetFailureMode() == policyv1.FailureMode_FAILURE_MODE_UNSPECIFIED && (p.GetRego() != "" || l.dependsOnCaller()) {
		l.warn("failure_mode", "missing-failure-mode", "it looks at facts that a caller may leave out and does not say what then: "+
			"the tenant's failure mode decides, which is DENY unless set")
	}
	weak := map[policyv1.EnforcementLevel]string{
		policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_WARN:  "warns",
		policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_AUDIT: "is recorded",
	}[p.GetEnforcement()]
	if i := slices.IndexFunc(l.rules, func(r *linted) bool { return r.decision == governancev1.Decision_DECISION_DENY }); weak != "" && i >= 0 {
		l.warn("enforcement", "deny-is-weakened", "rule %q denies, and at this level that only %s", l.rules[i].source.GetRuleId(), weak)
	}
}

func (l *linter) know(r *rule) *linted {
	out := &linted{source: r.source, path: fmt.Sprintf("rules[%d]", r.index)}
	for i, c := range r.source.GetConditions() {
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			continue
		}
		if slices.Contains(out.conditions, string(text)) {
			l.warn(fmt.Sprintf("%s.conditions[%d]", out.path, i), "duplicate-condition", "says the same as an earlier condition of the rule")
		}
		out.conditions = append(out.conditions, string(text))
	}
	for _, a := range r.source.GetActions() {
		d, decides := decisions[a.GetActionType()]
		out.decision, out.duties = max(out.decision, d), out.duties || !decides
		out.terminal = out.terminal || a.GetTerminal()
	}
	return out
}

// dependsOnCaller reports whether a rule looks at what only the caller knows.
func (l *linter) dependsOnCaller() bool {
	var looks func(cs []*policyv1.PolicyCondition) bool
	looks = func(cs []*policyv1.PolicyCondition) bool {
		return slices.ContainsFunc(cs, func(c *policyv1.PolicyCondition) bool {
			f, _, err := parseField(c.GetField())
			given := f.source == attribute || f.source == actionArg || f.source == budgetUsed || f.source == budgetLeft || f.source == history ||
				f.source >= estimateCost && f.source <= estimateSeconds
			return err == nil && given || looks(c.GetNestedConditions())
		})
	}
	return slices.ContainsFunc(l.rules, func(r *linted) bool { return looks(r.source.GetConditions()) })
}

// order finds rules that earlier ones leave nothing to.
func (l *linter) order() {
	for i, r := range l.rules {
		for _, earlier := range l.rules[:i] {
			if !covers(earlier, r) {
				continue
			}
			switch {
			case earlier.terminal && len(earlier.conditions) == 0:
				l.warn(r.path, "unreachable-rule", "is never reached: rule %q before it always matches and is terminal", earlier.source.GetRuleId())
			case earlier.terminal:
				l.warn(r.path, "shadowed-rule", "is never reached: rule %q before it matches whenever this one would, and is terminal", earlier.source.GetRuleId())
			case earlier.decision >= r.decision && r.decision != 0 && !r.duties:
				l.warn(r.path, "shadowed-rule", "changes nothing: rule %q matches whenever this one does, and decides %s", earlier.source.GetRuleId(), short(earlier.decision))
			default:
				continue
			}
			break
		}
	}
}

// covers reports whether a matches whenever b does: it has no condition that b
// has not.
func covers(a, b *linted) bool {
	return !slices.ContainsFunc(a.conditions, func(c string) bool { return !slices.Contains(b.conditions, c) })
}

// says reports whether a THROTTLE says how often.
func says(parameters map[string]string) bool {
	for _, per := range []string{"second", "minute", "hour", "day"} {
		if parameters["per_"+per] != "" || parameters["max_requests_per_"+per] != "" {
			return true
		}
	}
	return quota.Marked(parameters)
}

// rule looks at one rule by itself.
func (l *linter) rule(r *linted) {
	if len(r.source.GetActions()) == 0 {
		l.warn(r.path+".actions", "no-actions", "the rule has no action: matching changes nothing")
	}
	for i, a := range r.source.GetActions() {
		if a.GetActionType() == policyv1.ActionType_ACTION_TYPE_THROTTLE && !says(a.GetParameters()) {
			l.warn(fmt.Sprintf("%s.actions[%d].parameters", r.path, i), "throttle-without-rate",
				"says no rate that the gateway knows, such as max and per, parallel, or per_minute: nothing is limited")
		}
	}
	if len(r.conditions) == 0 {
		if r.decision == governancev1.Decision_DECISION_DENY && everywhere(l.policy.GetScope()) {
			l.warn(r.path, "denies-everything", "has no condition, and the policy no scope: it denies every action of the tenant")
		}
		return
	}
	all := node{op: policyv1.LogicalOperator_LOGICAL_OPERATOR_AND}
	for i, c := range r.source.GetConditions() {
		all.kids = append(all.kids, l.lines.condition(fmt.Sprintf("%s.conditions[%d]", r.path, i), c, 1))
	}
	alternatives, ok := unfold(all, false)
	if !ok {
		return
	}
	if !slices.ContainsFunc(alternatives, func(a []literal) bool {
		return slices.ContainsFunc(a, func(x literal) bool { return x.forms().indexed })
	}) {
		l.unindexed++
	}
	var why string
	for _, a := range alternatives {
		if why = l.conflict(a); why == "" {
			return // it can match
		}
	}
	what := "the rule"
	if r.decision == governancev1.Decision_DECISION_DENY {
		what = "this denial"
	}
	l.warn(r.path+".conditions", "never-matches", "%s can never match: %s", what, why)
}
