package app_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

// watches makes the engine ask for a history of the argument amount, apart by
// those, and decide with it: nil is a history that it was not given.
func (w *world) watches(decide func(tool string, h *policyv1.FieldStatistics) governancev1.Decision, by ...string) {
	w.engine.says(func(req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		f := req.GetFacts()
		resp := judgement(decide(f.GetAction().GetName(), f.GetStatistics()["p amount"]))
		b := &policyenginev1.Baseline{Key: "p amount", PolicyId: "p", Field: "action.args.amount", By: by}
		if v, ok := f.GetAction().GetArguments().GetFields()["amount"].GetKind().(*structpb.Value_NumberValue); ok {
			b.Value = proto.Float64(v.NumberValue)
		} else if f.GetAttributes()["amount"] != "" {
			b.Value = proto.Float64(1)
		}
		resp.Baselines = []*policyenginev1.Baseline{b}
		return resp, nil
	})
}

func pay(tool string, amount float64) *governancev1.AuthorizeRequest {
	req := call(tool, "")
	req.Action.Arguments = &structpb.Struct{Fields: map[string]*structpb.Value{"amount": structpb.NewNumberValue(amount)}}
	return req
}

// samples is how many values all histories have together.
func samples(t *testing.T, w *world) int64 {
	t.Helper()
	return dbtest.Count(t, w.db, `select coalesce(sum(samples), 0)::bigint from fulcrum.baselines`)
}

// What may happen adds to the history of its field, once; what was refused, was
// only tried, or was asked of some of the policies adds nothing.
func TestOnlyWhatMayHappenIsLearnedFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.watches(func(tool string, h *policyv1.FieldStatistics) governancev1.Decision {
		switch {
		case h == nil || tool == "no":
			return denied
		case tool == "ask":
			return asks
		case tool == "warn":
			return governancev1.Decision_DECISION_WARN
		}
		return allowed
	}, "agent")
	w.ledger.reserves(func(req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		if req.GetAmounts().GetToolCalls() > 1 {
			return &budgetv1.ReserveResponse{Reason: "BUDGET_EXCEEDED", Message: "the budget is spent"}, nil
		}
		return &budgetv1.ReserveResponse{Granted: true}, nil
	})
	agent := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one"})
	ctx := as(t, agent)
	policies := policyv1.NewPolicyServiceClient(g.conn)
	evaluate := func(dry bool, ids ...string) {
		t.Helper()
		if _, err := policies.EvaluatePolicies(ctx, &policyv1.EvaluatePoliciesRequest{
			PolicyIds: ids, DryRun: dry, Context: &policyv1.EvaluationContext{Attributes: map[string]string{"amount": "1"}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	dry, spent, settle := pay("yes", 1), pay("yes", 1), pay("yes", 1)
	dry.DryRun, spent.Estimate = true, &governancev1.Estimate{ToolCalls: 2}
	var want int64
	for _, step := range []struct {
		name string
		do   func()
		adds int64
	}{
		{"a yes", func() { decided(t, ctx, g, settle) }, 1},
		{"the same again", func() { decided(t, ctx, g, settle) }, 0},
		{"a warning", func() { decided(t, ctx, g, pay("warn", 1)) }, 1},
		{"a no", func() { decided(t, ctx, g, pay("no", 1)) }, 0},
		{"a demand for approval", func() { decided(t, ctx, g, pay("ask", 1)) }, 0},
		{"a no of the budgets", func() { decided(t, ctx, g, spent) }, 0},
		{"a dry run", func() { decided(t, ctx, g, dry) }, 0},
		{"no amount", func() { decided(t, ctx, g, call("yes", "")) }, 0},
		{"its settlement, whose output is judged", func() {
			id := decided(t, ctx, g, settle).GetDecisionId()
			if _, err := governanceOf(g).Settle(ctx, &governancev1.SettleRequest{
				DecisionId: id, Outcome: governancev1.Outcome_OUTCOME_SUCCESS, OutputText: "done", IdempotencyKey: uuid.NewString(),
			}); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"a list of tools", func() {
			if _, err := governanceOf(g).FilterTools(ctx, &governancev1.FilterToolsRequest{Tools: []*governancev1.Tool{{Name: "yes"}}, Attributes: map[string]string{"amount": "1"}}); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"an action that opens its envelope", func() {
			req := pay("yes", 1)
			req.Envelope = &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{WorkflowId: "w"}}
			decided(t, ctx, g, req)
		}, 1},
		{"an envelope", func() {
			if _, err := envelopev1.NewEnvelopeServiceClient(g.conn).CreateEnvelope(ctx, &envelopev1.CreateEnvelopeRequest{
				AdapterType: "test", Metadata: map[string]string{"amount": "1", "workflow_id": "w"},
			}); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"an evaluation", func() { evaluate(false) }, 1},
		{"a dry evaluation", func() { evaluate(true) }, 0},
		{"an evaluation by some policies", func() { evaluate(false, uuid.NewString()) }, 0},
	} {
		step.do()
		if want += step.adds; samples(t, w) != want {
			t.Fatalf("after %s: %d values, not %d", step.name, samples(t, w), want)
		}
	}

	// What a person approved becomes usual when it is done.
	person := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"approval:write", "approval:read"}, UserID: "ada"})
	req := pay("ask", 1)
	id := askFor(t, g, agent, req)
	if _, err := review(t, g, person, id, "APPROVED"); err != nil {
		t.Fatal(err)
	}
	if n := samples(t, w); n != want {
		t.Errorf("an approval counts: %d values, not %d", n, want)
	}
	if resp := decided(t, ctx, g, repeated(req, id)); resp.GetDecision() != allowed || samples(t, w) != want+1 {
		t.Errorf("%v, %d values, not %d", resp, samples(t, w), want+1)
	}
}

// Callers ask two gateways at once, several of them the same: every decision
// counts once.
func TestARacedAndRepeatedCallIsLearnedFromOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	for _, g := range gateways {
		ready(t, g)
	}
	w.watches(func(_ string, h *policyv1.FieldStatistics) governancev1.Decision {
		if h == nil {
			return denied
		}
		return allowed
	}, "tenant")
	ctx := as(t, w.key(w.tenant, "*"))
	const calls, times, atOnce = 20, 3, 2 // few at a time: on a crowded machine callers wait for connections in vain
	var all sync.WaitGroup
	for n := range calls {
		if n%atOnce == 0 {
			all.Wait()
		}
		req := pay("yes", float64(1+n%2))
		lost, cancel := context.WithCancel(ctx)
		all.Go(func() { _, _ = governanceOf(gateways[n%2]).Authorize(lost, req) }) // nobody hears the answer
		cancel()
		for i := range times {
			all.Go(func() {
				if resp, err := governanceOf(gateways[i%2]).Authorize(ctx, req); err != nil || resp.GetDecision() != allowed {
					t.Errorf("%v, %v", resp, err)
				}
			})
		}
	}
	all.Wait()
	if n := samples(t, w); n != calls {
		t.Errorf("%d calls count as %d", calls, n)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.baselines where abs(mean - 1.5) < 1e-9 and abs(variance - 0.25) < 1e-9`); n != 1 {
		t.Errorf("%d histories are right", n)
	}
}

// The engine hears what was before, of whom it asked for: nothing so far is known
// to be nothing, and by whom the action has not is unknown. The record of the
// decision says what it heard.
func TestRulesHearWhatAFieldWasBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	var unknown atomic.Int64
	store := postgres.New(w.db.DB, func() {})
	heard := make(chan *policyv1.FieldStatistics, 100)
	decide := func(_ string, h *policyv1.FieldStatistics) governancev1.Decision {
		if h == nil {
			unknown.Add(1)
			return denied
		}
		heard <- h
		return allowed
	}
	w.watches(decide, "agent", "tool")
	one := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one"}))
	other := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "other"}))
	stranger := as(t, w.keyAs(identity.Principal{Tenant: newTenant(w), Scopes: []string{"*"}, AgentID: "one"}))
	for _, step := range []struct {
		ctx       context.Context
		tool      string
		amount    float64
		samples   int64
		mean, dev float64
	}{
		{one, "refund", 10, 0, 0, 0}, {one, "refund", 20, 1, 10, 0}, {one, "refund", 15, 2, 15, 5}, {one, "grant", 1, 0, 0, 0},
		{other, "refund", 1, 0, 0, 0}, {stranger, "refund", 1, 0, 0, 0}, {other, "refund", 3, 1, 1, 0},
	} {
		resp := decided(t, step.ctx, g, pay(step.tool, step.amount))
		h := <-heard
		if step.ctx != stranger {
			record, _, err := store.LoadDecision(t.Context(), w.tenant, uuid.MustParse(resp.GetDecisionId()), decision.Query{})
			if err != nil || !proto.Equal(record.Facts.GetStatistics()["p amount"], h) {
				t.Errorf("the record has %v, %v", record.Facts.GetStatistics(), err)
			}
		}
		if h.GetSamples() != step.samples || h.GetMean() != step.mean || h.GetDeviation() != step.dev {
			t.Errorf("%s of %g heard %v", step.tool, step.amount, h)
		}
	}
	if n := unknown.Load(); n != 2 {
		t.Errorf("asked without a history %d times, and there are two tenants", n)
	}

	w.watches(decide, "user")
	unknown.Store(0)
	if resp := decided(t, one, g, pay("refund", 1)); resp.GetDecision() != denied || unknown.Load() == 0 {
		t.Errorf("by user, and there is none: %v", resp)
	}
	byUser := pay("refund", 5)
	byUser.Principal = &governancev1.EndUser{UserId: "eve"}
	if resp := decided(t, one, g, byUser); resp.GetDecision() != allowed {
		t.Errorf("by user: %v", resp)
	}
}
