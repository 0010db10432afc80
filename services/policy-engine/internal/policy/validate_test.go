package policy_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

func TestProblemsNameTheirField(t *testing.T) {
	t.Parallel()
	deny := []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}}
	under := func(c *policyv1.PolicyCondition) *policyv1.Policy {
		return &policyv1.Policy{Rules: []*policyv1.PolicyRule{
			{RuleId: "fine", Enabled: true, Actions: deny},
			{RuleId: "r", Enabled: true, Actions: deny, Conditions: []*policyv1.PolicyCondition{c}},
		}}
	}
	list := func(vs ...*structpb.Value) *policyv1.PolicyCondition_ListValue {
		return &policyv1.PolicyCondition_ListValue{ListValue: listOf(vs...)}
	}
	deep := &policyv1.PolicyCondition{Field: "agent.id", Value: text("a")}
	for range 20 {
		deep = &policyv1.PolicyCondition{ConditionType: 8, LogicalOperator: 3, NestedConditions: []*policyv1.PolicyCondition{deep}}
	}
	wide := &policyv1.PolicyCondition{ConditionType: 8, LogicalOperator: 1}
	for range 10 {
		or := &policyv1.PolicyCondition{ConditionType: 8, LogicalOperator: 2}
		for _, v := range []string{"a", "b", "c"} {
			or.NestedConditions = append(or.NestedConditions, &policyv1.PolicyCondition{Field: "agent.id", Value: text(v)})
		}
		wide.NestedConditions = append(wide.NestedConditions, or)
	}
	for _, tt := range []struct {
		name    string
		policy  *policyv1.Policy
		field   string
		message string
		warning bool
	}{
		{"unknown field", under(&policyv1.PolicyCondition{Field: "user.shoe", Value: text("x")}), "rules[1].conditions[0]", `unknown field "user.shoe"`, false},
		{"no field", under(&policyv1.PolicyCondition{Value: text("x")}), "rules[1].conditions[0]", "field is missing", false},
		{"no value", under(&policyv1.PolicyCondition{Field: "tool.name"}), "rules[1].conditions[0]", "a value to compare tool.name with is missing", false},
		{"two values", under(&policyv1.PolicyCondition{Field: "tool.name", Value: text("x"), Values: []string{"y"}}), "rules[1].conditions[0]", "not both", false},
		{"bad expression", under(&policyv1.PolicyCondition{ConditionType: 2, Field: "tool.name", Value: text("a[")}), "rules[1].conditions[0]", "missing closing ]", false},
		{"types that never compare", under(&policyv1.PolicyCondition{Field: "tool.name", Operator: 3, Value: &policyv1.PolicyCondition_IntValue{IntValue: 1}}), "rules[1].conditions[0]", "never compare", false},
		{"hour that is no number", under(&policyv1.PolicyCondition{ConditionType: 4, Field: "time.hour", Values: []string{"noon"}}), "rules[1].conditions[0]", `"noon" is not`, false},
		{"day that is none", under(&policyv1.PolicyCondition{Field: "time.weekday", Value: text("Caturday")}), "rules[1].conditions[0]", "not a day of the week", false},
		{"range of three", under(&policyv1.PolicyCondition{ConditionType: 3, Field: "time.hour", Value: list(structpb.NewNumberValue(1), structpb.NewNumberValue(2), structpb.NewNumberValue(3))}), "rules[1].conditions[0]", "takes two values", false},
		{"range of two kinds", under(&policyv1.PolicyCondition{ConditionType: 3, Field: "action.args.x", Value: list(structpb.NewNumberValue(1), structpb.NewStringValue("a"))}), "rules[1].conditions[0]", "two numbers or two strings", false},
		{"order of booleans", under(&policyv1.PolicyCondition{Field: "action.args.x", Operator: 3, Value: &policyv1.PolicyCondition_BoolValue{BoolValue: true}}), "rules[1].conditions[0]", "does not compare booleans", false},
		{"operator of another type", under(&policyv1.PolicyCondition{ConditionType: 2, Field: "tool.name", Operator: 2, Value: text("x")}), "rules[1].conditions[0]", "REGEX does not take the operator NOT_EQUALS", false},
		{"list with a null", under(&policyv1.PolicyCondition{ConditionType: 4, Field: "tool.name", Value: list(structpb.NewNullValue())}), "rules[1].conditions[0]", "list_value[0]", false},
		{"equals with several", under(&policyv1.PolicyCondition{Field: "tool.name", Operator: 1, Values: []string{"a", "b"}}), "rules[1].conditions[0]", "use IN", false},
		{"logical without conditions", under(&policyv1.PolicyCondition{ConditionType: 8, LogicalOperator: 1}), "rules[1].conditions[0]", "needs nested_conditions", false},
		{"logical without operator", under(&policyv1.PolicyCondition{ConditionType: 8, NestedConditions: []*policyv1.PolicyCondition{{}}}), "rules[1].conditions[0]", "needs a logical_operator", false},
		{"nested in a comparison", under(&policyv1.PolicyCondition{ConditionType: 1, Field: "tool.name", Value: text("x"), NestedConditions: []*policyv1.PolicyCondition{{}}}), "rules[1].conditions[0]", "LOGICAL conditions only", false},
		{"a nested problem", under(&policyv1.PolicyCondition{ConditionType: 8, LogicalOperator: 1, NestedConditions: []*policyv1.PolicyCondition{{Field: "agent.id", Value: text("a")}, {Field: "x"}}}), "rules[1].conditions[0].nested_conditions[1]", "unknown field", false},
		{"nested too deep", under(deep), "nested_conditions[0]", "nest deeper than 16", false},
		{"too many alternatives", under(wide), "rules[1].conditions", "more than 512 alternatives", false},
		{"unknown action", &policyv1.Policy{Rules: []*policyv1.PolicyRule{{Enabled: true, Actions: []*policyv1.PolicyAction{{}}}}}, "rules[0].actions[0].action_type", "missing or unknown", false},
		{"quorum of none", &policyv1.Policy{Rules: []*policyv1.PolicyRule{{Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: 8, Parameters: map[string]string{"quorum": "0"}}}}}}, "rules[0].actions[0].parameters", "quorum must be", false},
		{"endless approval", &policyv1.Policy{Rules: []*policyv1.PolicyRule{{Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: 8, Parameters: map[string]string{"ttl_seconds": "x"}}}}}}, "rules[0].actions[0].parameters", "ttl_seconds must be", false},
		{"a disabled rule", &policyv1.Policy{Rules: []*policyv1.PolicyRule{{Actions: deny, Conditions: []*policyv1.PolicyCondition{{Field: "x"}}}}}, "rules[0].conditions[0]", "unknown field", false},
		{"expiry before effect", &policyv1.Policy{EffectiveAt: timestamppb.New(time.Unix(9, 0)), ExpiresAt: timestamppb.New(time.Unix(8, 0))}, "expires_at", "not after", false},
		{"rules and rego", &policyv1.Policy{Rego: module("deny contains \"x\""), Rules: []*policyv1.PolicyRule{{}}}, "rules", "rules or rego", false},
		{"a backend that is not there", under(&policyv1.PolicyCondition{ConditionType: 11, SemanticIntent: "x"}), "rules[1].conditions[0].condition_type", "SEMANTIC backend is not configured", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			problems := policy.NewCompiler(nil).Validate(tt.policy)
			for _, p := range problems {
				if strings.HasSuffix(p.Field, tt.field) && strings.Contains(p.Message, tt.message) && p.Warning == tt.warning {
					return
				}
			}
			t.Errorf("no %q at %s: %v", tt.message, tt.field, problems)
		})
	}
	if problems := policy.NewCompiler(nil).Validate(&policyv1.Policy{FailureMode: 1, Rules: workload.Mixed(10)}); len(problems) != 0 {
		t.Errorf("a good policy: %v", problems)
	}
}

// When rules together take too long, each policy is judged by itself, so that
// only the one that is slow fails.
func TestOnlyTheSlowPolicyFails(t *testing.T) {
	t.Parallel()
	slow := &policyv1.Policy{PolicyId: "slow", Priority: 9, FailureMode: policyv1.FailureMode_FAILURE_MODE_ALLOW, Rules: []*policyv1.PolicyRule{{
		RuleId: "s", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}},
		Conditions: []*policyv1.PolicyCondition{{ConditionType: 2, Field: "input.text", Value: text(`(?i)(a+)+[x-z]{1,500}$`)}},
	}}}
	quick := &policyv1.Policy{PolicyId: "quick", Rules: []*policyv1.PolicyRule{{
		RuleId: "q", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_WARN}},
		Conditions: []*policyv1.PolicyCondition{{Field: "tool.name", Value: text("send_email")}},
	}}}
	b := workload.Bundle("t", 1, nil)
	b.Policies = []*policyv1.Policy{slow, quick}
	set, err := policy.NewCompiler(nil).Compile("t", b)
	if err != nil {
		t.Fatal(err)
	}
	f := workload.Call()
	f.InputText = proto.String(strings.Repeat("a", 1<<20))
	var outcomes map[string]policyenginev1.PolicyOutcome
	for range 10 { // on a crowded machine the time may be up before the quick one's turn
		got, err := set.Evaluate(t.Context(), policy.Request{Facts: f})
		if err != nil {
			t.Fatal(err)
		}
		outcomes = map[string]policyenginev1.PolicyOutcome{}
		for _, r := range got.GetResults() {
			outcomes[r.GetPolicyId()] = r.GetOutcome()
		}
		if outcomes["slow"] != policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED {
			t.Fatalf("outcomes: %v", outcomes)
		}
		if outcomes["quick"] == policyenginev1.PolicyOutcome_POLICY_OUTCOME_EVALUATED {
			return
		}
	}
	t.Errorf("outcomes: %v", outcomes)
}
