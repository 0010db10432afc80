package immune

import (
	"fmt"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// propose drafts the policy that answers an incident, for its agent alone. A
// policy can name an agent and no key, so where no agent is known there is none.
func propose(in *Incident, d Detector, s Sighting) (*policyv1.Policy, string) {
	if s.Actor.Agent == "" {
		return nil, ""
	}
	rule := &policyv1.PolicyRule{
		RuleId: "generated", Name: string(d.Name), RuleType: policyv1.RuleType_RULE_TYPE_CUSTOM, Enabled: true, Description: in.Description,
	}
	var what string
	switch d.Name {
	case Loop:
		rule.RuleType = policyv1.RuleType_RULE_TYPE_RATE_LIMIT
		rule.Conditions = equal("action.name", s.Action)
		rate := max(int64(float64(d.Threshold)*60/d.Window.Seconds())/2, 1)
		rule.Actions = act(policyv1.ActionType_ACTION_TYPE_THROTTLE, map[string]string{"per_minute": fmt.Sprint(rate), "by": "agent"})
		what = fmt.Sprintf("limits %q to %d a minute", s.Action, rate)
	case BulkRead:
		rule.Conditions = equal("action.kind", "DATA_ACCESS")
		rule.Actions = act(policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL, nil)
		what = "makes its data accesses wait for a person"
	case CostVelocity:
		rule.RuleType = policyv1.RuleType_RULE_TYPE_COST_CONTROL
		rule.Actions = act(policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL, nil)
		what = "makes whatever it does wait for a person"
	case Privilege:
		rule.RuleType = policyv1.RuleType_RULE_TYPE_RBAC
		rule.Actions = act(policyv1.ActionType_ACTION_TYPE_DENY, nil)
		what = "denies it everything"
	default:
		return nil, ""
	}
	p := &policyv1.Policy{
		Name:        fmt.Sprintf("Generated: %s by %.128s", d.Name, s.Actor.Agent),
		Description: in.Description, Status: policyv1.PolicyStatus_POLICY_STATUS_DRAFT, Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
		Scope: &policyv1.PolicyScope{AgentIds: []string{s.Actor.Agent}, Phases: []policyv1.ExecutionPhase{
			policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL, policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_LLM_CALL,
		}},
		Rules: []*policyv1.PolicyRule{rule},
		Tags:  map[string]string{"generated_by": "immune-system", "incident_id": in.ID.String(), "pattern_id": in.Pattern.String()},
	}
	return p, fmt.Sprintf("%s. The draft applies to agent %s alone and %s.", in.Description, s.Actor.Agent, what)
}

func equal(field, value string) []*policyv1.PolicyCondition {
	return []*policyv1.PolicyCondition{{
		ConditionType: policyv1.ConditionType_CONDITION_TYPE_IN_LIST, Field: field,
		Operator: policyv1.ConditionOperator_CONDITION_OPERATOR_IN, Values: []string{value},
	}}
}

func act(kind policyv1.ActionType, parameters map[string]string) []*policyv1.PolicyAction {
	return []*policyv1.PolicyAction{{
		ActionType: kind, Parameters: parameters, Severity: policyv1.SeverityLevel_SEVERITY_LEVEL_HIGH,
		Message: "proposed after an incident, and approved by a person",
	}}
}
