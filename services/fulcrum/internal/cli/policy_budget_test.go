package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// From the template to the decision, over the public door and through every
// service: it warns while a budget fills up, asks a person when it is nearly spent,
// and lets actions pass again when something was given back.
func TestTheBudgetGuardWarnsAndAsks(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	conn, err := rpc.Dial(running.GRPCAddr, rpc.DialOptions{Public: true, Timeout: 30 * time.Second,
		Extra: []grpc.DialOption{grpc.WithPerRPCCredentials(bearer{key: secret.New(acme.env["FULCRUM_API_KEY"])})}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	governance := governancev1.NewGovernanceServiceClient(conn)
	ask := func(usd float64, dry bool) *governancev1.AuthorizeResponse {
		t.Helper()
		got, err := governance.Authorize(ctx, &governancev1.AuthorizeRequest{
			Action:   &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "search"},
			Estimate: &governancev1.Estimate{CostUsd: usd}, DryRun: dry, IdempotencyKey: uuid.NewString(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	acme.types("budget create team --cost 10 --period infinite").exits(exitOK)
	acme.types("policy template apply daily-budget-guard --set budget=team --activate").exits(exitOK).shows("ACTIVE")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ask(1000, true).GetRefusedBy().GetName() != "team" {
		<-tick.C
	}
	first := ask(8, false)
	if first.GetDecision() != governancev1.Decision_DECISION_ALLOW || len(first.GetHold().GetBudgets()) != 1 {
		t.Fatalf("of an empty budget: %v", first)
	}
	for ask(0.5, true).GetDecision() != governancev1.Decision_DECISION_WARN {
		<-tick.C // until the policy is in force, too
	}
	for _, step := range []struct {
		usd  float64
		want governancev1.Decision
		rule string
	}{
		{0.5, governancev1.Decision_DECISION_WARN, "filling-up"}, {1, governancev1.Decision_DECISION_WARN, "filling-up"}, // 80 % and 85 % used
		{0.1, governancev1.Decision_DECISION_REQUIRE_APPROVAL, "nearly-spent"}, // 95 % used
	} {
		if got := ask(step.usd, false); got.GetDecision() != step.want || got.GetReasons()[0].GetRuleId() != step.rule {
			t.Errorf("$%g: %v", step.usd, got)
		}
	}
	if _, err := governance.Release(ctx, &governancev1.ReleaseRequest{DecisionId: first.GetDecisionId(), IdempotencyKey: uuid.NewString()}); err != nil {
		t.Fatal(err)
	}
	if got := ask(0.1, false); got.GetDecision() != governancev1.Decision_DECISION_ALLOW || len(got.GetReasons()) != 0 {
		t.Errorf("after most was given back: %v", got)
	}

	// A budget that there is not is unknown, and the policy says that it failed.
	acme.types("policy template apply daily-budget-guard --name misspelt --set budget=tema --activate").exits(exitOK)
	for said := false; !said; <-tick.C {
		got := ask(0.1, true)
		for _, r := range got.GetReasons() {
			said = said || r.GetPolicyName() == "misspelt" && strings.Contains(r.GetMessage(), "budget.tema.used_percent is unknown; its failure mode is ALLOW")
		}
		if ctx.Err() != nil {
			t.Fatalf("it does not say so: %v", got)
		}
	}
}
