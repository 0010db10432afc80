// Package workload is the rules and the facts that the engine is measured and
// tested with.
package workload

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// Mixed returns n rules of the kinds that tenants write: four in ten find their
// fact by an exact value, the others compare, search or match. None matches
// the facts of Call().
func Mixed(n int) []*policyv1.PolicyRule {
	str := func(field string, kind policyv1.ConditionType, value string) *policyv1.PolicyCondition {
		return &policyv1.PolicyCondition{ConditionType: kind, Field: field, Value: &policyv1.PolicyCondition_StringValue{StringValue: value}}
	}
	eq := func(field, value string) *policyv1.PolicyCondition {
		return str(field, policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH, value)
	}
	cmp := func(field string, op policyv1.ConditionOperator, value int64) *policyv1.PolicyCondition {
		return &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_RANGE, Field: field, Operator: op, Value: &policyv1.PolicyCondition_IntValue{IntValue: value}}
	}
	in := func(field string, op policyv1.ConditionOperator, values ...string) *policyv1.PolicyCondition {
		return &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_IN_LIST, Field: field, Operator: op, Values: values}
	}
	more, fewer := policyv1.ConditionOperator_CONDITION_OPERATOR_GREATER_THAN, policyv1.ConditionOperator_CONDITION_OPERATOR_LESS_THAN
	one, none := policyv1.ConditionOperator_CONDITION_OPERATOR_IN, policyv1.ConditionOperator_CONDITION_OPERATOR_NOT_IN
	kinds := []func(i int) []*policyv1.PolicyCondition{
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{eq("tool.name", fmt.Sprint("delete_db", i))}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{eq("tool.name", fmt.Sprint("drop", i)), eq("user.role", "intern")}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{cmp("estimate.cost_usd", more, int64(1000+i))}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{eq("tool.name", fmt.Sprint("pay", i)), cmp("action.args.amount", more, 5000)}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{str("input.text", policyv1.ConditionType_CONDITION_TYPE_REGEX, fmt.Sprintf(`(?i)ssn[: ]+\d{3}-\d{2}-%d`, i))}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{in("model.id", none, "gpt-4o", "gpt-4o-mini", fmt.Sprint("claude", i))}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{str("input.text", policyv1.ConditionType_CONDITION_TYPE_CONTAINS, fmt.Sprint("internal only ", i))}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{in("tool.name", one, fmt.Sprint("shell", i), fmt.Sprint("exec", i), "eval")}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{cmp("time.hour", fewer, 6), eq("tool.name", fmt.Sprint("deploy", i))}
		},
		func(i int) []*policyv1.PolicyCondition {
			return []*policyv1.PolicyCondition{str("tool.name", policyv1.ConditionType_CONDITION_TYPE_STARTS_WITH, fmt.Sprint("admin_", i))}
		},
	}
	rules := make([]*policyv1.PolicyRule, n)
	for i := range rules {
		rules[i] = &policyv1.PolicyRule{
			RuleId: fmt.Sprint("rule-", i), Enabled: true, Conditions: kinds[i%len(kinds)](i),
			Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY, Message: "not allowed"}},
		}
	}
	return rules
}

// Bundle spreads rules over policies of ten.
func Bundle(tenant string, version int64, rules []*policyv1.PolicyRule) *configv1.PolicyBundle {
	b := &configv1.PolicyBundle{TenantId: tenant, Version: version}
	for i := 0; i < len(rules); i += 10 {
		b.Policies = append(b.Policies, &policyv1.Policy{
			PolicyId: fmt.Sprintf("policy-%04d", i/10), Name: fmt.Sprint("policy ", i/10), Version: 1,
			Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
			Rules: rules[i:min(i+10, len(rules))],
		})
	}
	return b
}

// Call is a tool call with what the gateway knows of it.
func Call() *policyenginev1.Facts {
	args, err := structpb.NewStruct(map[string]any{"to": "finance@example.com", "subject": "numbers", "amount": 120.0})
	if err != nil {
		panic(err)
	}
	return &policyenginev1.Facts{
		WorkflowId: "wf", EnvelopeId: "env", AgentId: "agent-7", AgentTeam: "growth", UserId: "u-1", UserRoles: []string{"analyst"},
		Phase: policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL, ModelId: "gpt-4o",
		InputText:  proto.String("Please send the quarterly numbers to finance at the usual address, thanks."),
		Attributes: map[string]string{"region": "eu", "channel": "slack"},
		Action: &governancev1.Action{
			Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "send_email", Arguments: args,
		},
		Estimate:     &governancev1.Estimate{InputTokens: 900, MaxOutputTokens: 400, CostUsd: 0.012},
		TimeUnixNano: time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC).UnixNano(),
	}
}

// ByHand is Mixed(n) as somebody would write it.
func ByHand(n int) string {
	kinds := []string{
		`deny contains %[1]d if input.tool == "delete_db%[1]d"`,
		`deny contains %[1]d if { input.tool == "drop%[1]d"; input.role == "intern" }`,
		`deny contains %[1]d if input.cost > 1000 + %[1]d`,
		`deny contains %[1]d if { input.tool == "pay%[1]d"; input.args.amount > 5000 }`,
		`deny contains %[1]d if regex.match("(?i)ssn[: ]+\\d{3}-\\d{2}-%[1]d", input.text)`,
		`deny contains %[1]d if not input.model in {"gpt-4o", "gpt-4o-mini", "claude%[1]d"}`,
		`deny contains %[1]d if contains(input.text, "internal only %[1]d")`,
		`deny contains %[1]d if input.tool in {"shell%[1]d", "exec%[1]d", "eval"}`,
		`deny contains %[1]d if { input.hour < 6; input.tool == "deploy%[1]d" }`,
		`deny contains %[1]d if startswith(input.tool, "admin_%[1]d")`,
	}
	text := "package hand\nimport rego.v1\n"
	for i := range n {
		text += fmt.Sprintf(kinds[i%len(kinds)], i) + "\n"
	}
	return text
}

// Even spreads rules over four policies, however many they are: what changes
// with their number is then due to rules alone.
func Even(b *configv1.PolicyBundle) *configv1.PolicyBundle {
	var rules []*policyv1.PolicyRule
	for _, p := range b.GetPolicies() {
		rules = append(rules, p.GetRules()...)
	}
	out := &configv1.PolicyBundle{TenantId: b.GetTenantId(), Version: b.GetVersion()}
	for i := range 4 {
		out.Policies = append(out.Policies, &policyv1.Policy{
			PolicyId: fmt.Sprintf("policy-%d", i), Version: 1, Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
			Rules: rules[len(rules)*i/4 : len(rules)*(i+1)/4],
		})
	}
	return out
}

// Indexed returns n rules that OPA finds by hash, none of which matches Call.
func Indexed(n int) []*policyv1.PolicyRule {
	rules := make([]*policyv1.PolicyRule, n)
	for i := range rules {
		rules[i] = &policyv1.PolicyRule{
			RuleId: fmt.Sprint("rule-", i), Enabled: true,
			Conditions: []*policyv1.PolicyCondition{{
				Field: "tool.name", Value: &policyv1.PolicyCondition_StringValue{StringValue: fmt.Sprint("tool_", i)},
			}},
			Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY, Message: "not allowed"}},
		}
	}
	return rules
}

// Map is Call as a program that uses the library itself would hold it, with
// the names that ByHand asks for.
func Map() map[string]any {
	return map[string]any{
		"tool": "send_email", "role": "analyst", "model": "gpt-4o", "hour": 14, "cost": 0.012,
		"args":  map[string]any{"to": "finance@example.com", "subject": "numbers", "amount": 120.0},
		"text":  "Please send the quarterly numbers to finance at the usual address, thanks.",
		"agent": "agent-7", "team": "growth", "user": "u-1", "workflow": "wf", "envelope": "env",
		"attribute": map[string]any{"region": "eu", "channel": "slack"},
	}
}
