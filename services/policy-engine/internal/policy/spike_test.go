package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// spikeOf is a condition on a spike of the field, apart by those.
func spikeOf(field string, by ...string) *policyv1.PolicyCondition {
	return &policyv1.PolicyCondition{
		ConditionType: policyv1.ConditionType_CONDITION_TYPE_STATISTICAL_SPIKE, Field: field, Spike: &policyv1.SpikeBaseline{By: by},
	}
}

func refund(amount *structpb.Value) *policyenginev1.Facts {
	return &policyenginev1.Facts{Action: &governancev1.Action{
		Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "refund", Arguments: &structpb.Struct{Fields: map[string]*structpb.Value{"amount": amount}},
	}}
}

func answerTo(t *testing.T, s *policy.Set, f *policyenginev1.Facts) *policyenginev1.EvaluateResponse {
	t.Helper()
	r, err := s.Evaluate(t.Context(), policy.Request{Facts: f})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An answer names the histories that policies compare with, those of shadows too,
// and what the action adds to each: a number, where one of the policies applies.
func TestAnAnswerNamesTheHistoriesThatPoliciesCompareWith(t *testing.T) {
	t.Parallel()
	scoped := denying(spikeOf("action.args.amount", "user", "agent", "user"), spikeOf("action.args.amount", "user", "agent"))
	scoped.PolicyId, scoped.Scope = "scoped", &policyv1.PolicyScope{ToolNames: []string{"refund"}}
	off := denying(spikeOf("estimate.tokens"))
	off.PolicyId = "off"
	off.Rules[0].Enabled = false
	drafted := denying(spikeOf("action.args.amount"))
	drafted.PolicyId, drafted.Status = "drafted", policyv1.PolicyStatus_POLICY_STATUS_DRAFT
	wider := denying(spikeOf("action.args.amount", "agent", "user"), spikeOf("attribute.n", "tenant"))
	wider.PolicyId = "scoped"
	set := compiled(t, &configv1.PolicyBundle{Policies: []*policyv1.Policy{scoped, off, drafted}, Shadows: shadowOf(wider, 1)})
	narrow := compiled(t, &configv1.PolicyBundle{Policies: []*policyv1.Policy{scoped}})
	for _, tt := range []struct {
		name string
		set  *policy.Set
		tool string
		arg  *structpb.Value
		want string
	}{
		{"in scope", narrow, "refund", structpb.NewNumberValue(7), "scoped action.args.amount by agent,user=7"},
		{"out of scope", narrow, "search", structpb.NewNumberValue(7), "scoped action.args.amount by agent,user"},
		{"no number", narrow, "refund", structpb.NewStringValue("7"), "scoped action.args.amount by agent,user"},
		{"larger than can be counted", narrow, "refund", structpb.NewNumberValue(-1e300), "scoped action.args.amount by agent,user=-1e+100"},
		{"in the scope of the shadow", set, "search", structpb.NewNumberValue(7), "scoped action.args.amount by agent,user=7, scoped attribute.n by tenant=12"},
	} {
		f := refund(tt.arg)
		f.Action.Name, f.Attributes = tt.tool, map[string]string{"n": "12"}
		var got []string
		for _, b := range answerTo(t, tt.set, f).GetBaselines() {
			text := b.GetKey()
			if b.Value != nil {
				text = fmt.Sprintf("%s=%g", text, b.GetValue())
			}
			if !strings.Contains(text, b.GetField()) || !strings.HasPrefix(text, b.GetPolicyId()) || len(b.GetBy()) == 0 || !slices.IsSorted(b.GetBy()) {
				t.Errorf("%s: %v", tt.name, b)
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: asks for %q, wanted %q", tt.name, got, tt.want)
		}
	}
}

// A spike is told with what it is measured by, each by its own facts, also among
// the conditions that matched.
func TestASpikeSaysWhatItIsMeasuredBy(t *testing.T) {
	t.Parallel()
	p := denying(spikeOf("action.args.amount"))
	p.Rules[0].Actions[0].Message = "far more than usual"
	set := compiled(t, &configv1.PolicyBundle{Policies: []*policyv1.Policy{p}})
	for mean, times := range map[float64]string{100: "900.0", 500: "500.0"} {
		f := refund(structpb.NewNumberValue(1000))
		f.Statistics = map[string]*policyv1.FieldStatistics{"p action.args.amount": {Samples: 31, Mean: mean, Deviation: 1}}
		got := answerTo(t, set, f)
		told := fmt.Sprintf("action.args.amount is 1000, %s standard deviations above its mean %g (deviation 1, 31 samples)", times, mean)
		if m := got.GetReasons()[0].GetMessage(); m != "far more than usual ("+told+")" {
			t.Errorf("the reason is %q", m)
		}
		if c := got.GetResults()[0].GetMatchedRules()[0].GetMatchedConditions(); len(c) != 1 || !strings.HasSuffix(c[0], ": "+told) ||
			!strings.HasPrefix(c[0], "action.args.amount STATISTICAL_SPIKE 3 deviations above its mean by agent, tool, from 30 samples on") {
			t.Errorf("the conditions are %q", c)
		}
	}
}

// A policy's own tests say what a field was before.
func TestTestsSayWhatAFieldWasBefore(t *testing.T) {
	t.Parallel()
	p := policyOf(t, `
rules:
  - {rule_id: r, enabled: true, conditions: [{condition_type: STATISTICAL_SPIKE, field: estimate.tokens}], actions: [{action_type: DENY}]}
  - {rule_id: s, enabled: true, conditions: [{condition_type: STATISTICAL_SPIKE, field: estimate.tokens, int_value: 50, spike: {by: [user]}}], actions: [{action_type: WARN}]}
tests:
  - {name: as always, input: {model_id: m, phase: PRE_LLM_CALL, estimate: {input_tokens: 120}, statistics: {estimate.tokens: {samples: 30, mean: 100, deviation: 10}, estimate.tokens by user: {samples: 90, mean: 100, deviation: 10}}}, want: {undecided: true}}
  - {name: a spike, input: {model_id: m, phase: PRE_LLM_CALL, estimate: {input_tokens: 140}, statistics: {estimate.tokens: {samples: 30, mean: 100, deviation: 10}, estimate.tokens by user: {samples: 90, mean: 1, deviation: 1}}}, want: {decision: DECISION_DENY, rules: [r, s], message: 4.0 standard deviations}}
  - {name: nobody knows, input: {model_id: m, phase: PRE_LLM_CALL, estimate: {input_tokens: 140}}, want: {decision: DECISION_DENY, failed: true}}`)
	report, problems := policy.Empty("t").Try(t.Context(), policy.NewCompiler(nil), p)
	if len(problems) > 0 || !report.GetPassed() || len(report.GetResults()) != 3 {
		t.Errorf("%v, %v", report, problems)
	}
}

// What cannot be compared with its past does not compile.
func TestConditionsOnSpikesAreChecked(t *testing.T) {
	t.Parallel()
	with := func(change func(*policyv1.PolicyCondition)) []*policyv1.PolicyCondition {
		c := spikeOf("action.args.amount")
		change(c)
		return []*policyv1.PolicyCondition{c}
	}
	many := make([]*policyv1.PolicyCondition, 17)
	for i := range many {
		many[i] = spikeOf(fmt.Sprint("action.args.a", i))
	}
	for want, conditions := range map[string][]*policyv1.PolicyCondition{
		"field is missing":               {spikeOf("")},
		`unknown field "no.such.things"`: {spikeOf("no.such.things")},
		"only a number has a mean":       {spikeOf("tool.name")},
		"takes estimate.*":               {spikeOf("time.hour")},
		"history.x is nothing that":      {spikeOf("history.x")},
		"remaining_usd is nothing that":  {spikeOf("budget.b.remaining_usd")},
		"used_percent is nothing that":   {spikeOf("budget.b.used_percent")},
		"action.args.l[] is a":           {spikeOf("action.args.l[]")},
		`not "planet"`:                   {spikeOf("estimate.tokens", "planet")},
		"not LESS_EQUAL": with(func(c *policyv1.PolicyCondition) {
			c.Operator = policyv1.ConditionOperator_CONDITION_OPERATOR_LESS_EQUAL
		}),
		"above 0 and at most 1e+06":            with(func(c *policyv1.PolicyCondition) { c.Value = &policyv1.PolicyCondition_IntValue{} }),
		"is a number of standard deviations":   with(func(c *policyv1.PolicyCondition) { c.Value = text("3") }),
		"a number of standard deviations":      with(func(c *policyv1.PolicyCondition) { c.Values = []string{"x"} }),
		"value of STATISTICAL_SPIKE":           with(func(c *policyv1.PolicyCondition) { c.Values = []string{"1", "2"} }),
		"of STATISTICAL_SPIKE is a number":     with(func(c *policyv1.PolicyCondition) { c.Value = &policyv1.PolicyCondition_IntValue{IntValue: 1e7} }),
		"belong to LOGICAL":                    with(func(c *policyv1.PolicyCondition) { c.NestedConditions = many[:1] }),
		"of a tenant may look at 16 histories": many,
	} {
		if problems := policy.NewCompiler(nil).Validate(denying(conditions...)); !slices.ContainsFunc(problems, func(p policy.Problem) bool { return !p.Warning && strings.Contains(p.Message, want) }) {
			t.Errorf("%q is not said of %v: %v", want, conditions, problems)
		}
	}
	if problems := policy.NewCompiler(nil).Validate(denying(many[:16]...)); slices.ContainsFunc(problems, func(p policy.Problem) bool { return !p.Warning }) {
		t.Errorf("16 histories: %v", problems)
	}
}
