package policy_test

import (
	"slices"
	"testing"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// An answer names the budgets that policies ask about, however a module writes
// them, and no others.
func TestAnAnswerNamesTheBudgetsThatPoliciesAskAbout(t *testing.T) {
	t.Parallel()
	rules := func(id string, fields ...string) *policyv1.Policy {
		p := denying()
		p.PolicyId = id
		for _, f := range fields {
			p.Rules[0].Conditions = append(p.Rules[0].Conditions, &policyv1.PolicyCondition{
				Field: f, Operator: policyv1.ConditionOperator_CONDITION_OPERATOR_GREATER_THAN, Value: &policyv1.PolicyCondition_IntValue{IntValue: 3},
			})
		}
		return p
	}
	rego := func(body string) *policyv1.Policy {
		return &policyv1.Policy{PolicyId: "p", Rego: module("deny contains \"x\" if {\n" + body + "\n}\n")}
	}
	for _, tt := range []struct {
		name    string
		policy  *policyv1.Policy
		shadow  *policyv1.Policy
		want    []string
		wantNot []string
	}{
		{"none", rules("p", "time.hour"), nil, nil, []string{"time.hour"}},
		{"rules", rules("p", "budget.team a.used_percent", "budget.daily.remaining_usd", "budget.daily.used_percent", "time.hour"), nil, []string{"team a", "daily"}, []string{"time.hour"}},
		{"a shadow's rules", rules("p"), rules("s", "budget.monthly.used_percent"), []string{"monthly"}, nil},
		{"a module", rego("input.budget.daily.used_percent > 80"), nil, []string{"daily"}, []string{"budget", "used_percent", "remaining_usd"}},
		{"a module by index", rego(`input.budget["team a"].remaining_usd < 80`), nil, []string{"team a"}, nil},
		{"a module by path", rego(`fulcrum.num(input, "budget.x.y.used_percent") > 80`), nil, []string{"x.y"}, nil},
		{"a module by a name for it", rego("all := input.budget\nsome name in [\"one\", \"two\"]\nall[name].used_percent > 80"), nil, []string{"one", "two"}, nil},
		{"a shadow's module", rules("p"), rego("input.budget.daily.used_percent > 80"), []string{"daily"}, nil},
		{"a module that asks about none", rego(`input.tool.name == "daily"`), nil, nil, []string{"daily"}},
	} {
		b := &configv1.PolicyBundle{Policies: []*policyv1.Policy{tt.policy}}
		if tt.shadow != nil {
			b.Shadows = shadowOf(tt.shadow, 1)
		}
		got := answerTo(t, compiled(t, b), &policyenginev1.Facts{}).GetBudgets()
		for _, name := range tt.want {
			if !slices.Contains(got, name) {
				t.Errorf("%s: does not ask about %q: %q", tt.name, name, got)
			}
		}
		if len(tt.want) == 0 && len(got) > 0 || slices.ContainsFunc(tt.wantNot, func(name string) bool { return slices.Contains(got, name) }) {
			t.Errorf("%s: asks about %q", tt.name, got)
		}
	}
}

// What is left of a budget is in the input of Rego as well.
func TestRegoSeesWhatIsLeftOfABudget(t *testing.T) {
	t.Parallel()
	set := compiled(t, &configv1.PolicyBundle{Policies: []*policyv1.Policy{{PolicyId: "p", Rego: module(`
deny contains "spent" if input.budget.daily.used_percent >= 95
warn contains "little" if fulcrum.num(input, "budget.daily.remaining_usd") < 5
`)}}})
	for _, tt := range []struct {
		used, left float64
		want       governancev1.Decision
	}{{95, 3, governancev1.Decision_DECISION_DENY}, {90, 4.5, governancev1.Decision_DECISION_WARN}, {10, 20, governancev1.Decision_DECISION_ALLOW}} {
		f := &policyenginev1.Facts{BudgetUsedPercent: map[string]float64{"daily": tt.used}, BudgetRemainingUsd: map[string]float64{"daily": tt.left}}
		if got := answerTo(t, set, f); got.GetDecision() != tt.want {
			t.Errorf("%g %% used, %g left: %v", tt.used, tt.left, got)
		}
	}
	if got := answerTo(t, set, &policyenginev1.Facts{}); got.GetDecision() != governancev1.Decision_DECISION_DENY || got.GetResults()[0].GetError() == "" {
		t.Errorf("unknown: %v", got)
	}
}
