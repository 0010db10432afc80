package app_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

// asksFor makes the engine ask for the standing of a budget, deny from 90 % on, and
// fail without it.
func (w *world) asksFor(budgets ...string) {
	w.engine.says(func(req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		used, known := req.GetFacts().GetBudgetUsedPercent()["daily"]
		resp := judgement(allowed)
		if !known && len(budgets) > 0 {
			resp = judgement(denied)
			resp.Reasons[0].Message = "budget.daily.used_percent is unknown"
		} else if used >= 90 {
			resp = judgement(denied)
		}
		resp.Budgets = budgets
		return resp, nil
	})
}

func (l *ledger) tells(f func(context.Context, *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.standings = f
}

// Rules hear how far the budgets are used that they name, of whom the action is,
// for every question; nobody asks the ledger for rules that name none, and the
// record says what was heard.
func TestRulesHearHowFarBudgetsAreUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	var asked atomic.Int64
	var used atomic.Int64
	w.ledger.tells(func(ctx context.Context, req *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
		asked.Add(1)
		if len(req.GetNames()) != 2 || req.GetNames()[0] != "daily" || req.GetSubject().GetAgentId() != "one" || req.GetSubject().GetTeam() != "red" || req.GetSubject().GetApiKeyId() == "" {
			t.Errorf("asked %v", req)
		}
		return &budgetv1.GetStandingsResponse{Standings: []*budgetv1.Standing{{Name: "daily", UsedPercent: proto.Float64(float64(used.Load())), RemainingUsd: proto.Float64(2.5)}}}, nil
	})
	ctx := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one", Team: "red"}))
	w.asksFor()
	if resp := decided(t, ctx, g, call("search", "")); resp.GetDecision() != allowed || asked.Load() != 0 {
		t.Errorf("nobody asked for it: %v, %d times", resp, asked.Load())
	}
	w.asksFor("daily", "no such budget")
	used.Store(89)
	resp := decided(t, ctx, g, call("search", ""))
	if resp.GetDecision() != allowed {
		t.Errorf("at 89 %%: %v", resp)
	}
	record, _, err := postgres.New(w.db.DB, func() {}).LoadDecision(t.Context(), w.tenant, uuid.MustParse(resp.GetDecisionId()), decision.Query{})
	if f := record.Facts; err != nil || f.GetBudgetUsedPercent()["daily"] != 89 || f.GetBudgetRemainingUsd()["daily"] != 2.5 || len(f.GetBudgetUsedPercent()) != 1 {
		t.Errorf("the record has %v, %v", f, err)
	}
	used.Store(90)
	before := asked.Load()
	if resp := decided(t, ctx, g, call("search", "")); resp.GetDecision() != denied {
		t.Errorf("at 90 %%: %v", resp)
	}
	if n := asked.Load() - before; n != 1 {
		t.Errorf("the ledger was asked %d times for one decision", n)
	}
	evaluated, err := policyv1.NewPolicyServiceClient(g.conn).EvaluatePolicy(ctx, &policyv1.EvaluatePolicyRequest{Context: &policyv1.EvaluationContext{ToolNames: []string{"search"}}, DryRun: true})
	if err != nil || evaluated.GetResult().GetDecision() != policyv1.EvaluationDecision_EVALUATION_DECISION_DENY {
		t.Errorf("EvaluatePolicy: %v, %v", evaluated, err)
	}
}

// While the ledger does not tell, or tells nothing of the budget, it is unknown:
// what the rules say then is their failure mode, and never a silent yes.
func TestWhatTheLedgerDoesNotTellIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.asksFor("daily")
	ctx := as(t, w.key(w.tenant, "*"))
	for name, tell := range map[string]func(context.Context, *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error){
		"there is no such budget": func(context.Context, *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
			return &budgetv1.GetStandingsResponse{}, nil
		},
		"it limits nothing": func(context.Context, *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
			return &budgetv1.GetStandingsResponse{Standings: []*budgetv1.Standing{{Name: "daily"}}}, nil
		},
		"the ledger fails": func(context.Context, *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
			return nil, fault.New(fault.Precondition, "no")
		},
		"the ledger never answers": func(ctx context.Context, _ *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		w.ledger.tells(tell)
		if resp := decided(t, ctx, g, call("search", "")); resp.GetDecision() != denied || resp.GetReasons()[0].GetMessage() != "budget.daily.used_percent is unknown" {
			t.Errorf("%s: %v", name, resp)
		}
	}
}
