package policy

import (
	"slices"

	"google.golang.org/protobuf/proto"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// watched is a history that is kept because of some policies: one in force, a
// version of it in the shadow, or both.
type watched struct {
	baseline
	policies []*compiled
}

// watch collects the histories that the policies of s need. A shadow's are kept
// too, so that it has something to compare with once it is in force.
func (s *Set) watch(t *translator) {
	add := func(b baseline, p *compiled) {
		for i := range s.watched {
			if w := &s.watched[i]; w.key == b.key {
				w.policies = append(w.policies, p)
				return
			}
		}
		s.watched = append(s.watched, watched{baseline: b, policies: []*compiled{p}})
	}
	for _, b := range t.baselines {
		for _, p := range s.policies {
			if p.source.GetPolicyId() == b.policy {
				add(b, p)
			}
		}
	}
	for _, h := range s.shadows {
		for _, b := range h.baselines {
			add(b, h.alone.policies[0])
		}
	}
}

// baselines says which histories v should have come with, and what v adds to
// them: its value, where one of the policies applies.
func (s *Set) baselines(v *view) (out []*policyenginev1.Baseline) {
	for _, w := range s.watched {
		b := &policyenginev1.Baseline{Key: w.key, PolicyId: w.policy, Field: w.field.String(), By: w.by}
		applies := slices.ContainsFunc(w.policies, func(p *compiled) bool { yes, _ := p.applies(v); return yes })
		if x, ok := float(v.lookup(need{field: w.field, kinds: number}, "")); applies && ok {
			b.Value = proto.Float64(max(-farthest, min(farthest, x)))
		}
		out = append(out, b)
	}
	return out
}

// account says in e how the fields compare with their histories, where that is
// why the rule matched.
func (e *entry) account(u *unit, l *line, v *view) {
	if len(l.spikes) == 0 {
		return
	}
	e.match = proto.CloneOf(e.match)
	why := ""
	for _, s := range l.spikes {
		if text := v.account(u.needs[s.need]); text != "" {
			e.match.MatchedConditions[s.condition] += ": " + text
			why += "; " + text
		}
	}
	if why == "" {
		return
	}
	e.reasons = slices.Clone(e.reasons)
	for i, r := range e.reasons {
		e.reasons[i] = proto.CloneOf(r)
		e.reasons[i].Message += " (" + why[len("; "):] + ")"
	}
}

// learning are the reasons why spikes that p looks for do not hold: too few
// values so far. They decide nothing.
func (p *compiled) learning(v *view) (out []*governancev1.Reason) {
	for _, n := range p.spikes {
		if text := v.account(n); text != "" && v.learning(n) {
			out = append(out, p.reason(&governancev1.Reason{
				RuleId: "too_few_samples", Message: text + ", so it does not hold yet",
				Severity: short(policyv1.SeverityLevel_SEVERITY_LEVEL_INFO), Decision: governancev1.Decision_DECISION_ALLOW,
			}))
		}
	}
	return out
}
