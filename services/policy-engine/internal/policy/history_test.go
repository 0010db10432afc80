package policy_test

import (
	"testing"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

const thirdRefund = `
rules:
  - {rule_id: count, enabled: true, conditions: [{field: tool.name, string_value: refund}], actions: [{action_type: THROTTLE, parameters: {count: refunds, per: hour}}]}
  - {rule_id: third, enabled: true, conditions: [{field: tool.name, string_value: refund}, {field: history.refunds, operator: GREATER_THAN, int_value: 1}], actions: [{action_type: REQUIRE_APPROVAL}]}`

const thirdRefundInRego = `
obligations contains {"type": "LIMIT", "parameters": {"count": "refunds", "per": "hour"}} if input.tool.name == "refund"
require_approval contains {"rule_id": "third", "message": "a third"} if {
	input.tool.name == "refund"
	input.history.refunds > 1
}`

// What counters have counted is a fact like any other: it compares as a number,
// it is unknown when nobody supplied it, and the answer says which are needed.
func TestHistoryIsAFact(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*policyv1.Policy{"rules": policyOf(t, thirdRefund), "rego": {Rego: module(thirdRefundInRego)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p.PolicyId = "p"
			set, err := policy.NewCompiler(nil).Compile("t", &configv1.PolicyBundle{TenantId: "t", Version: 1, Policies: []*policyv1.Policy{p}})
			if err != nil {
				t.Fatal(err)
			}
			ask := func(history map[string]float64) *policyenginev1.EvaluateResponse {
				resp, err := set.Evaluate(t.Context(), policy.Request{Facts: &policyenginev1.Facts{
					Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "refund"}, History: history,
				}})
				if err != nil {
					t.Fatal(err)
				}
				return resp
			}
			for n, want := range map[float64]governancev1.Decision{
				0: governancev1.Decision_DECISION_ALLOW, 1: governancev1.Decision_DECISION_ALLOW, 2: governancev1.Decision_DECISION_REQUIRE_APPROVAL, 2.5: governancev1.Decision_DECISION_REQUIRE_APPROVAL,
			} {
				got := ask(map[string]float64{"refunds": n})
				if got.GetDecision() != want || len(got.GetObligations()) != 1 {
					t.Errorf("after %v: %v", n, got)
				}
				if h := got.GetHistory(); len(h) != 1 || h[0].GetParameters()["count"] != "refunds" || h[0].GetParameters()["per"] != "hour" {
					t.Errorf("it needs %v", h)
				}
			}
			if name == "rules" { // in Rego what is undefined does not fire, as everywhere
				if got := ask(nil); got.GetResults()[0].GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED || got.GetDecision() != governancev1.Decision_DECISION_DENY {
					t.Errorf("unknown: %v", got)
				}
			}
		})
	}
}

// Nobody reads counters that no policy asks about, or asks about counters that
// only a shadow's rules define; the first definition of a name is the one.
func TestOnlyWhatIsAskedForIsNeeded(t *testing.T) {
	t.Parallel()
	counts := func(id, per string, level policyv1.EnforcementLevel) *policyv1.Policy {
		p := policyOf(t, `rules: [{rule_id: r, enabled: true, actions: [{action_type: THROTTLE, parameters: {max: "9", counter: c, per: `+per+`}}]}]`)
		p.PolicyId, p.Enforcement = id, level
		return p
	}
	asks := policyOf(t, `rules: [{rule_id: r, enabled: true, conditions: [{field: history.c, operator: GREATER_THAN, int_value: 5}], actions: [{action_type: WARN}]}]`)
	asks.PolicyId = "z"
	for _, tt := range []struct {
		name     string
		policies []*policyv1.Policy
		per      string // "": nothing is needed
	}{
		{"nobody asks", []*policyv1.Policy{counts("a", "hour", 0)}, ""},
		{"nobody counts", []*policyv1.Policy{asks}, ""},
		{"only a shadow counts", []*policyv1.Policy{counts("a", "hour", policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_AUDIT), asks}, ""},
		{"two count", []*policyv1.Policy{counts("b", "day", 0), counts("a", "hour", 0), asks}, "hour"},
	} {
		set, err := policy.NewCompiler(nil).Compile("t", &configv1.PolicyBundle{TenantId: "t", Version: 1, Policies: tt.policies})
		if err != nil {
			t.Fatal(err)
		}
		got, err := set.Evaluate(t.Context(), policy.Request{Facts: &policyenginev1.Facts{}})
		if err != nil {
			t.Fatal(err)
		}
		per := ""
		for _, o := range got.GetHistory() {
			per += o.GetParameters()["per"]
		}
		if per != tt.per {
			t.Errorf("%s: needs %v", tt.name, got.GetHistory())
		}
	}
}

// A policy's own tests say what was before.
func TestTestsSayWhatWasBefore(t *testing.T) {
	t.Parallel()
	p := policyOf(t, thirdRefund+`
tests:
  - {name: the second, input: {tool_names: [refund], phase: PRE_TOOL_CALL, history: {refunds: 1}}, want: {undecided: true, obligations: [LIMIT]}}
  - {name: the third, input: {tool_names: [refund], phase: PRE_TOOL_CALL, history: {refunds: 2}}, want: {decision: DECISION_REQUIRE_APPROVAL, rules: [third]}}
  - {name: nobody knows, input: {tool_names: [refund], phase: PRE_TOOL_CALL}, want: {decision: DECISION_DENY, failed: true}}`)
	report, problems := policy.Empty("t").Try(t.Context(), policy.NewCompiler(nil), p)
	if len(problems) > 0 || !report.GetPassed() || len(report.GetResults()) != 3 {
		t.Errorf("%v, %v", report, problems)
	}
}
