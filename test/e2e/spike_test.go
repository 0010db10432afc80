package e2e

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// transfer is a call of the tool with an amount.
func transfer(amount *structpb.Value) *governancev1.Action {
	a := running.Tool("transfer")
	a.Arguments = &structpb.Struct{Fields: map[string]*structpb.Value{"amount": amount}}
	return a
}

// What is far from what an agent did so far is denied, with the numbers; what was
// denied is never learned from, so asking again and again does not make it usual.
func TestASpikeIsDenied(t *testing.T) {
	t.Parallel()
	tn := stack.Tenant(t, "spikes")
	tn.Policy(t, "no sudden transfers", &policyv1.PolicyScope{ToolNames: []string{"transfer"}}, &policyv1.PolicyRule{
		RuleId: "spike", Name: "far more than usual",
		Conditions: []*policyv1.PolicyCondition{{
			ConditionType: policyv1.ConditionType_CONDITION_TYPE_STATISTICAL_SPIKE, Field: "action.args.amount", Value: &policyv1.PolicyCondition_IntValue{IntValue: 4},
		}},
		Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY, Message: "far more than usual"}},
	})
	bot, other := tn.Agent(t, "transfer-bot"), tn.Agent(t, "other-bot")
	ask := func(c *running.Client, amount *structpb.Value) *governancev1.AuthorizeResponse {
		t.Helper()
		resp, err := c.Governance.Authorize(t.Context(), running.Inline("transfers", transfer(amount)))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	said := func(resp *governancev1.AuthorizeResponse) (all string) {
		for _, r := range resp.GetReasons() {
			all += r.GetMessage() + "\n"
		}
		return all
	}
	for n := range 30 { // of 90 and 110
		resp := ask(bot, structpb.NewNumberValue(float64(90+n%2*20)))
		if want := fmt.Sprintf("action.args.amount has %d of the 30 samples that STATISTICAL_SPIKE takes, so it does not hold yet", n); resp.GetDecision() != governancev1.Decision_DECISION_ALLOW ||
			!strings.Contains(said(resp), want) {
			t.Fatalf("transfer %d: %v", n+1, resp)
		}
	}
	const spike = "far more than usual (action.args.amount is 1000, 90.0 standard deviations above its mean 100 (deviation 10, 30 samples))"
	for range 10 { // what is denied leaves the samples as they are
		if resp := ask(bot, structpb.NewNumberValue(1000)); resp.GetDecision() != governancev1.Decision_DECISION_DENY || resp.GetMessage() != "denied: "+spike || resp.GetReasons()[0].GetRuleId() != "spike" {
			t.Fatalf("a spike: %v", resp)
		}
	}
	if resp := ask(bot, structpb.NewStringValue("1000")); resp.GetDecision() != governancev1.Decision_DECISION_DENY || !strings.Contains(said(resp), "action.args.amount is not a number") {
		t.Errorf("a text: %v", resp)
	}
	if resp := ask(bot, structpb.NewNumberValue(140)); resp.GetDecision() != governancev1.Decision_DECISION_ALLOW || len(resp.GetReasons()) != 0 {
		t.Errorf("exactly four deviations: %v", resp)
	}
	if resp := ask(other, structpb.NewNumberValue(1000)); resp.GetDecision() != governancev1.Decision_DECISION_ALLOW || !strings.Contains(said(resp), "0 of the 30 samples") {
		t.Errorf("another agent: %v", resp)
	}
	if resp := ask(bot, structpb.NewNumberValue(1000)); resp.GetDecision() != governancev1.Decision_DECISION_DENY || !strings.Contains(said(resp), "31 samples") {
		t.Errorf("a spike after that: %v", resp)
	}

	// Nobody else's past is one's own, not that of an agent of the same name.
	stranger := stack.Tenant(t, "spikes-elsewhere").Agent(t, "transfer-bot")
	if resp := ask(stranger, structpb.NewNumberValue(1000)); resp.GetDecision() != governancev1.Decision_DECISION_ALLOW || len(resp.GetReasons()) != 0 {
		t.Errorf("another tenant: %v", resp)
	}
}
