package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// form is a policy as front ends write it.
type form struct {
	PolicyType  string       `json:"policy_type"`
	Name        string       `json:"name"`
	Description string       `json:"description"`
	TenantID    string       `json:"tenant_id"`
	Rules       formRules    `json:"rules"`
	Actions     []formAction `json:"actions"`
	Enabled     *bool        `json:"enabled"`
	Priority    int32        `json:"priority"`
}

type formRules struct {
	MaxCostUSD     *float64 `json:"max_cost_usd"`
	PerMinute      *int64   `json:"max_requests_per_minute"`
	PerHour        *int64   `json:"max_requests_per_hour"`
	BlockedTools   []string `json:"blocked_tools"`
	AllowedTools   []string `json:"allowed_tools"`
	AllowedModels  []string `json:"allowed_models"`
	BlockedPattern []string `json:"blocked_patterns"`
	TriggerActions []string `json:"trigger_actions"` // globs
}

type formAction struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// policyForm serves POST /v1/policies if the body is a form, and reports
// whether it was. Otherwise the body is left as it came.
func (f *front) policyForm(w http.ResponseWriter, r *http.Request) bool {
	method := policyv1.PolicyService_CreatePolicy_FullMethodName
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.problem(w, r, method, f.unreadable(r, err.Error()))
		return true
	}
	var peek map[string]json.RawMessage
	if json.Unmarshal(body, &peek) != nil || peek["policy_type"] == nil && peek["policyType"] == nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		return false
	}
	resp, err := f.createFromForm(r, body)
	if err != nil {
		f.problem(w, r, method, err)
		return true
	}
	p := resp.GetPolicy()
	answer(w, http.StatusOK, map[string]string{
		"policy_id": p.GetPolicyId(), "name": p.GetName(), "status": strings.TrimPrefix(p.GetStatus().String(), "POLICY_STATUS_"),
		"created_at": p.GetCreatedAt().AsTime().Format(time.RFC3339Nano),
	})
	return true
}

func (f *front) createFromForm(r *http.Request, body []byte) (*policyv1.CreatePolicyResponse, error) {
	var in form
	if err := decodeStrict(snake(body), &in); err != nil {
		return nil, err
	}
	p, err := in.policy()
	if err != nil {
		return nil, err
	}
	req := &policyv1.CreatePolicyRequest{Policy: p}
	if err := f.check(r.Context(), req); err != nil {
		return nil, err
	}
	return f.o.Services.Policies.CreatePolicy(r.Context(), req)
}

// policy turns a form into structured rules.
func (in form) policy() (*policyv1.Policy, error) {
	p := &policyv1.Policy{
		Name: in.Name, Description: in.Description, TenantId: in.TenantID, Priority: in.Priority,
		Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
		Scope: &policyv1.PolicyScope{}, Tags: map[string]string{"policy_type": in.PolicyType},
	}
	if in.Enabled != nil && !*in.Enabled {
		p.Status = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
	}
	tools := []policyv1.ExecutionPhase{policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL}
	models := []policyv1.ExecutionPhase{policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_LLM_CALL}
	acting := append(append([]policyv1.ExecutionPhase{}, tools...), models...)
	deny := policyv1.ActionType_ACTION_TYPE_DENY
	rules := in.Rules
	switch in.PolicyType {
	case "cost_limit":
		if rules.MaxCostUSD == nil {
			return nil, fault.Field("rules.max_cost_usd", "is needed for a cost_limit")
		}
		p.Scope.Phases = acting
		in.rule(p, policyv1.RuleType_RULE_TYPE_COST_CONTROL, deny, nil, &policyv1.PolicyCondition{
			ConditionType: policyv1.ConditionType_CONDITION_TYPE_RANGE, Field: "estimate.cost_usd",
			Operator: policyv1.ConditionOperator_CONDITION_OPERATOR_GREATER_THAN,
			Value:    &policyv1.PolicyCondition_FloatValue{FloatValue: *rules.MaxCostUSD},
		})
	case "rate_limit":
		limits := make(map[string]string)
		for name, n := range map[string]*int64{"max_requests_per_minute": rules.PerMinute, "max_requests_per_hour": rules.PerHour} {
			if n == nil {
				continue
			}
			if *n <= 0 {
				return nil, fault.Field("rules."+name, "must be positive")
			}
			limits[name] = fmt.Sprint(*n)
		}
		if len(limits) == 0 {
			return nil, fault.Field("rules", "a rate_limit needs max_requests_per_minute or max_requests_per_hour")
		}
		p.Scope.Phases = acting
		in.rule(p, policyv1.RuleType_RULE_TYPE_RATE_LIMIT, policyv1.ActionType_ACTION_TYPE_THROTTLE, limits)
	case "tool_restriction":
		if len(rules.BlockedTools)+len(rules.AllowedTools) == 0 {
			return nil, fault.Field("rules", "a tool_restriction needs blocked_tools or allowed_tools")
		}
		p.Scope.Phases = tools
		if len(rules.BlockedTools) > 0 {
			in.rule(p, policyv1.RuleType_RULE_TYPE_TOOL_ALLOWLIST, deny, nil, listed("tool.name", false, rules.BlockedTools))
		}
		if len(rules.AllowedTools) > 0 {
			in.rule(p, policyv1.RuleType_RULE_TYPE_TOOL_ALLOWLIST, deny, nil, listed("tool.name", true, rules.AllowedTools))
		}
	case "model_restriction":
		if len(rules.AllowedModels) == 0 {
			return nil, fault.Field("rules.allowed_models", "is needed for a model_restriction")
		}
		p.Scope.Phases = models
		in.rule(p, policyv1.RuleType_RULE_TYPE_MODEL_RESTRICTION, deny, nil, listed("model.id", true, rules.AllowedModels))
	case "content_filter":
		if len(rules.BlockedPattern) == 0 {
			return nil, fault.Field("rules.blocked_patterns", "is needed for a content_filter")
		}
		for i, pattern := range rules.BlockedPattern {
			if _, err := regexp.Compile(pattern); err != nil {
				return nil, fault.Field(fmt.Sprintf("rules.blocked_patterns[%d]", i), "is not a regular expression: %v", err)
			}
			in.rule(p, policyv1.RuleType_RULE_TYPE_CONTENT_FILTER, deny, nil, matches("input.text", pattern))
		}
	case "approval_required":
		if len(rules.TriggerActions) == 0 {
			return nil, fault.Field("rules.trigger_actions", "is needed for approval_required")
		}
		p.Scope.Phases = acting
		for _, glob := range rules.TriggerActions {
			in.rule(p, policyv1.RuleType_RULE_TYPE_CUSTOM, policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL, nil, matches("action.name", fromGlob(glob)))
		}
	default:
		return nil, fault.Field("policy_type", "must be cost_limit, rate_limit, tool_restriction, model_restriction, content_filter or approval_required")
	}
	return p, nil
}

// rule adds a rule with the form's actions, or with the one that its type has
// when the form names none.
func (in form) rule(p *policyv1.Policy, kind policyv1.RuleType, usual policyv1.ActionType, parameters map[string]string, when ...*policyv1.PolicyCondition) {
	actions := []*policyv1.PolicyAction{{ActionType: usual, Parameters: parameters, Severity: policyv1.SeverityLevel_SEVERITY_LEVEL_MEDIUM}}
	for i, a := range in.Actions {
		action := &policyv1.PolicyAction{ActionType: actionType(a.Type, usual), Message: a.Message, Severity: policyv1.SeverityLevel_SEVERITY_LEVEL_MEDIUM}
		if action.GetActionType() == usual {
			action.Parameters = parameters
		}
		if i == 0 {
			actions = actions[:0]
		}
		actions = append(actions, action)
	}
	p.Rules = append(p.Rules, &policyv1.PolicyRule{
		RuleId: fmt.Sprintf("%s-%d", in.PolicyType, len(p.GetRules())+1), Name: in.Name, RuleType: kind, Enabled: true,
		Conditions: when, Actions: actions,
	})
}

// actionType reads the words that front ends use.
func actionType(word string, usual policyv1.ActionType) policyv1.ActionType {
	switch strings.ToLower(word) {
	case "", "default":
		return usual
	case "block":
		return policyv1.ActionType_ACTION_TYPE_DENY
	case "log":
		return policyv1.ActionType_ACTION_TYPE_AUDIT
	case "alert":
		return policyv1.ActionType_ACTION_TYPE_NOTIFY
	case "approval", "approve":
		return policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL
	}
	if v, ok := policyv1.ActionType_value["ACTION_TYPE_"+strings.ToUpper(word)]; ok {
		return policyv1.ActionType(v)
	}
	return policyv1.ActionType(-1) // validation names it
}

func listed(field string, not bool, values []string) *policyv1.PolicyCondition {
	op := policyv1.ConditionOperator_CONDITION_OPERATOR_IN
	if not {
		op = policyv1.ConditionOperator_CONDITION_OPERATOR_NOT_IN
	}
	return &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_IN_LIST, Field: field, Operator: op, Values: values}
}

func matches(field, pattern string) *policyv1.PolicyCondition {
	return &policyv1.PolicyCondition{
		ConditionType: policyv1.ConditionType_CONDITION_TYPE_REGEX, Field: field, Operator: policyv1.ConditionOperator_CONDITION_OPERATOR_MATCHES,
		Value: &policyv1.PolicyCondition_StringValue{StringValue: pattern},
	}
}

// fromGlob is the regular expression of a glob: * is anything, ? one character.
func fromGlob(glob string) string {
	quoted := regexp.QuoteMeta(glob)
	return "^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(quoted) + "$"
}
