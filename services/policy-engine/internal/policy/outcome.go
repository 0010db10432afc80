package policy

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// rule is a structured rule and what it answers when it matches.
type rule struct {
	id     string
	source *policyv1.PolicyRule // nil once it is compiled
	index  int                  // in its policy, as written
	*outcome
}

// outcome is what a matched rule, or an entry of a Rego policy, answers.
type outcome struct {
	decision    governancev1.Decision // before enforcement; unspecified when it decides nothing
	reasons     []*governancev1.Reason
	obligations []*governancev1.Obligation
	actions     []*policyv1.PolicyAction
	approval    *approval
	terminal    bool
}

// approval is what a REQUIRE_APPROVAL asks for. Zero means the gateway's default.
type approval struct {
	quorum int32
	roles  []string
	ttl    int64 // seconds
}

// stronger reports whether a asks for more than b.
func (a *approval) stronger(b *approval) bool { return b == nil || a.quorum > b.quorum }

const (
	maxQuorum = 100
	maxTTL    = 30 * 24 * 3600
)

// parseApproval reads the parameters quorum, roles (comma separated) and
// ttl_seconds.
func parseApproval(parameters map[string]string) (*approval, error) {
	a := &approval{quorum: 1}
	if s := parameters["quorum"]; s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxQuorum {
			return nil, fmt.Errorf("quorum must be a whole number from 1 to %d, not %q", maxQuorum, s)
		}
		a.quorum = int32(n)
	}
	if s := parameters["ttl_seconds"]; s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 1 || n > maxTTL {
			return nil, fmt.Errorf("ttl_seconds must be a whole number from 1 to %d, not %q", maxTTL, s)
		}
		a.ttl = n
	}
	for role := range strings.SplitSeq(parameters["roles"], ",") {
		if role = strings.TrimSpace(role); role != "" {
			a.roles = append(a.roles, role)
		}
	}
	return a, nil
}

// decisions are what action types decide; the others are obligations.
var decisions = map[policyv1.ActionType]governancev1.Decision{
	policyv1.ActionType_ACTION_TYPE_ALLOW:            governancev1.Decision_DECISION_ALLOW,
	policyv1.ActionType_ACTION_TYPE_WARN:             governancev1.Decision_DECISION_WARN,
	policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL: governancev1.Decision_DECISION_REQUIRE_APPROVAL,
	policyv1.ActionType_ACTION_TYPE_DENY:             governancev1.Decision_DECISION_DENY,
}

// actionOf is the opposite.
var actionOf = func() map[governancev1.Decision]policyv1.ActionType {
	actions := map[governancev1.Decision]policyv1.ActionType{}
	for action, decision := range decisions {
		actions[decision] = action
	}
	return actions
}()

// outcome prepares what r answers.
func (p *compiled) outcome(r *policyv1.PolicyRule) (*outcome, []Problem) {
	o := &outcome{actions: r.GetActions()}
	var problems []Problem
	for i, a := range r.GetActions() {
		o.terminal = o.terminal || a.GetTerminal()
		kind := a.GetActionType()
		field := fmt.Sprintf("actions[%d]", i)
		if kind == policyv1.ActionType_ACTION_TYPE_UNSPECIFIED || policyv1.ActionType_name[int32(kind)] == "" {
			problems = append(problems, Problem{Field: field + ".action_type", Message: "action_type is missing or unknown"})
			continue
		}
		decision, decides := decisions[kind]
		if kind == policyv1.ActionType_ACTION_TYPE_THROTTLE && quota.Marked(a.GetParameters()) {
			limit, err := p.limit(a.GetMessage(), r.GetRuleId(), a.GetParameters())
			if err != nil {
				problems = append(problems, limitProblem(field, err))
			}
			o.obligations = append(o.obligations, limit)
			continue
		}
		if !decides {
			o.obligations = append(o.obligations, p.obligation(short(kind), a.GetMessage(), r.GetRuleId(), a.GetParameters()))
			continue
		}
		o.decision = max(o.decision, decision)
		reason := &governancev1.Reason{
			RuleId: r.GetRuleId(), RuleName: r.GetName(),
			Message:  cmp.Or(a.GetMessage(), r.GetDescription(), r.GetName(), p.source.GetName(), "rule "+r.GetRuleId()),
			Decision: p.enforced(decision),
		}
		if s := a.GetSeverity(); s != policyv1.SeverityLevel_SEVERITY_LEVEL_UNSPECIFIED {
			reason.Severity = short(s)
		}
		o.reasons = append(o.reasons, p.reason(reason))
		if decision == governancev1.Decision_DECISION_REQUIRE_APPROVAL {
			ask, err := parseApproval(a.GetParameters())
			if err != nil {
				problems = append(problems, Problem{Field: field + ".parameters", Message: err.Error()})
			} else if ask.stronger(o.approval) {
				o.approval = ask
			}
		}
	}
	return o, problems
}

// reason completes r with what it shares with the other reasons of p.
func (p *compiled) reason(r *governancev1.Reason) *governancev1.Reason {
	r.PolicyId, r.PolicyName, r.Version = p.source.GetPolicyId(), p.source.GetName(), p.source.GetVersion()
	r.Shadow = p.shadow()
	return r
}

// obligation is an action that the caller carries out; it names its origin.
func (p *compiled) obligation(kind, message, rule string, parameters map[string]string) *governancev1.Obligation {
	o := &governancev1.Obligation{Type: kind, Parameters: map[string]string{}}
	for k, v := range parameters {
		o.Parameters[k] = v
	}
	for k, v := range map[string]string{"policy_id": p.source.GetPolicyId(), "rule_id": rule, "message": message} {
		if _, ok := o.Parameters[k]; !ok && v != "" {
			o.Parameters[k] = v
		}
	}
	return o
}
