package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// costing is a tool call that may cost so much.
func costing(req *governancev1.AuthorizeRequest, usd float64) *governancev1.AuthorizeRequest {
	req.Estimate = &governancev1.Estimate{CostUsd: usd}
	return req
}

// A parent hands a slice to a child: neither can spend what the other has, and
// what the child leaves comes back when it ends.
func TestAChildSpendsItsSliceAndTheRestComesBack(t *testing.T) {
	t.Parallel()
	me := stack.Tenant(t, "purse").Owner
	open := func(parent string, usd float64, slice bool) *envelopev1.ExecutionEnvelope {
		t.Helper()
		resp, err := me.Envelopes.CreateEnvelope(t.Context(), &envelopev1.CreateEnvelopeRequest{
			ParentEnvelopeId: parent, Governance: &envelopev1.GovernanceContext{CostLimitUsd: usd, SliceOfParent: slice},
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetEnvelope()
	}
	ask := func(envelope string, usd float64) *governancev1.AuthorizeResponse {
		t.Helper()
		resp, err := me.Governance.Authorize(t.Context(), costing(running.In(envelope, running.Tool("act")), usd))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	allowed, denied := governancev1.Decision_DECISION_ALLOW, governancev1.Decision_DECISION_DENY
	parent := open("", 5, false).GetEnvelopeId()
	child := open(parent, 3, true).GetEnvelopeId()
	if e := open(parent, 2.5, true); e.GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_BUDGET_EXCEEDED {
		t.Errorf("a second slice that does not fit: %v", e)
	}
	if a := ask(parent, 2.5); a.GetDecision() != denied || a.GetRefusedBy().GetHeld() != 3 || a.GetSuggested().GetCostNano() != 2e9 || !a.GetRetryable() {
		t.Errorf("the parent spends the child's: %v", a)
	}
	used := ask(child, 1)
	if used.GetDecision() != allowed {
		t.Fatal(used)
	}
	if a := ask(child, 2.5); a.GetDecision() != denied || a.GetRefusedBy().GetLimit() != 3 {
		t.Errorf("beyond the slice: %v", a)
	}
	if _, err := me.Governance.Settle(t.Context(), &governancev1.SettleRequest{
		DecisionId: used.GetDecisionId(), Outcome: governancev1.Outcome_OUTCOME_SUCCESS, IdempotencyKey: "settle", Usage: &governancev1.Usage{CostUsd: proto.Float64(0.5)},
	}); err != nil {
		t.Fatal(err)
	}
	if a := ask(child, 2.5); a.GetDecision() != allowed { // held, and never settled
		t.Errorf("what is left of the slice: %v", a)
	}
	if _, err := me.Envelopes.UpdateEnvelopeStatus(t.Context(), &envelopev1.UpdateEnvelopeStatusRequest{
		EnvelopeId: child, Status: envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED,
	}); err != nil {
		t.Fatal(err)
	}
	running.Eventually(t, 60*time.Second, func(ctx context.Context) error {
		req := costing(running.In(parent, running.Tool("act")), 4.5)
		a, err := me.Governance.Authorize(ctx, req)
		if err == nil && a.GetDecision() != allowed {
			err = fmt.Errorf("4.50 of 5 are to be left, and were refused: %s", a.GetMessage())
		}
		return err
	})
	if a := ask(parent, 0.1); a.GetDecision() != denied || a.GetRefusedBy().GetSpent() != 0.5 || a.GetRefusedBy().GetHeld() != 4.5 {
		t.Errorf("the last cent: %v", a)
	}
}

// An operator raises a budget for a time: it counts at once, shows where the
// budget is shown, and is gone when it is revoked, with nothing reset.
func TestABudgetIsRaisedForATime(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "raise")
	me := tenant.Owner
	budget := tenant.Budget(t, &costv1.Budget{Name: "small", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}}).GetBudgetId()
	ask := func(usd float64) *governancev1.AuthorizeResponse {
		t.Helper()
		a, err := me.Governance.Authorize(t.Context(), costing(running.Inline("raise", running.Tool("act")), usd))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := ask(0.75); a.GetDecision() != governancev1.Decision_DECISION_ALLOW {
		t.Fatal(a)
	}
	if a := ask(0.75); a.GetRefusedBy().GetLimit() != 1 || a.GetSuggested().GetCostNano() != 25e7 {
		t.Errorf("before: %v", a)
	}
	made, err := me.Costs.CreateBudgetOverride(t.Context(), &costv1.CreateBudgetOverrideRequest{
		BudgetId: budget, Limits: &costv1.BudgetLimits{MaxCostUsd: 2}, Duration: durationpb.New(time.Hour), Reason: "a launch",
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := ask(0.75); a.GetDecision() != governancev1.Decision_DECISION_ALLOW {
		t.Errorf("raised: %v", a)
	}
	if a := ask(0.75); a.GetRefusedBy().GetLimit() != 2 || a.GetRefusedBy().GetOverriddenUntil() == nil {
		t.Errorf("the refusal does not show the limit in force: %v", a)
	}
	status, err := me.Costs.GetBudgetStatus(t.Context(), &costv1.GetBudgetStatusRequest{BudgetId: budget})
	if err != nil || status.GetStatus().GetLimits().GetMaxCostUsd() != 2 || status.GetStatus().GetHeld().GetMaxCostUsd() != 1.5 ||
		status.GetStatus().GetOverride().GetReason() != "a launch" {
		t.Errorf("status: %v, %v", status, err)
	}
	if _, err := me.Costs.RevokeBudgetOverride(t.Context(), &costv1.RevokeBudgetOverrideRequest{
		BudgetId: budget, OverrideId: made.GetOverride().GetOverrideId(), Reason: "enough",
	}); err != nil {
		t.Fatal(err)
	}
	if a := ask(0.01); a.GetRefusedBy().GetLimit() != 1 || a.GetRefusedBy().GetHeld() != 1.5 {
		t.Errorf("after: %v", a)
	}
}
