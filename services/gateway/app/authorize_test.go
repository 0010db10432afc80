package app_test

import (
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// toolCall asks for one tool call with a cost.
func toolCall(envelope string) *governancev1.AuthorizeRequest {
	req := &governancev1.AuthorizeRequest{
		Action:         &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "send_email"},
		Estimate:       &governancev1.Estimate{CostUsd: 0.01},
		IdempotencyKey: uuid.NewString(),
	}
	if envelope != "" {
		req.Envelope = &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: envelope}
	}
	return req
}

// The life of one action: an envelope, a decision with a hold, what it used.
func TestAnActionIsDecidedHeldRecordedAndSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ctx := as(t, w.key(w.tenant, "envelope:write", "envelope:read"))
	envelopes := envelopev1.NewEnvelopeServiceClient(g.conn)
	governance := governancev1.NewGovernanceServiceClient(g.conn)

	opened, err := envelopes.CreateEnvelope(ctx, &envelopev1.CreateEnvelopeRequest{
		AdapterType: "custom", WorkflowId: "billing", AgentId: "agent-1", Metadata: map[string]string{"tool_name": "send_email"},
	}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	env := opened.GetEnvelope()
	if env.GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED {
		t.Fatalf("envelope: %v", env)
	}

	req := toolCall(env.GetEnvelopeId())
	resp, err := governance.Authorize(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetDecision() != governancev1.Decision_DECISION_ALLOW || resp.GetHold().GetReservationId() == "" || resp.GetPolicySetVersion() != 7 {
		t.Fatalf("answer: %v", resp)
	}
	again, err := governance.Authorize(ctx, req)
	if err != nil || again.GetDecisionId() != resp.GetDecisionId() {
		t.Fatalf("the same request again: %v, %v", again, err)
	}

	settle := &governancev1.SettleRequest{
		DecisionId: resp.GetDecisionId(), Outcome: governancev1.Outcome_OUTCOME_SUCCESS, Usage: &governancev1.Usage{ToolCalls: 1},
		OutputText: "sent", IdempotencyKey: uuid.NewString(),
	}
	for range 2 {
		settled, err := governance.Settle(ctx, settle)
		if err != nil {
			t.Fatal(err)
		}
		if settled.GetCharged().GetCostNano() != 5 || settled.GetOutputDecision() != governancev1.Decision_DECISION_ALLOW {
			t.Errorf("settled: %v", settled)
		}
	}

	got, err := envelopes.GetEnvelope(ctx, &envelopev1.GetEnvelopeRequest{EnvelopeId: env.GetEnvelopeId()})
	if err != nil {
		t.Fatal(err)
	}
	if e := got.GetEnvelope(); e.GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_RUNNING || e.GetCost().GetTotalCostUsd() != 0.25 || len(e.GetEvents()) != 1 {
		t.Errorf("envelope: %v", e)
	}
	one, err := governance.GetDecision(ctx, &governancev1.GetDecisionRequest{DecisionId: resp.GetDecisionId()})
	if err != nil || one.GetDecision().GetAction().GetName() != "send_email" || one.GetDecision().GetAgentId() != "agent-1" {
		t.Errorf("decision: %v, %v", one, err)
	}
	list, err := governance.ListDecisions(ctx, &governancev1.ListDecisionsRequest{EnvelopeId: env.GetEnvelopeId()})
	if err != nil || len(list.GetDecisions()) != 1 {
		t.Errorf("decisions: %v, %v", list, err)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions where method = 'authorize'`); n != 1 {
		t.Errorf("%d decisions recorded", n)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'decision_made'`); n != 3 { // open, authorize, output
		t.Errorf("%d decision events", n)
	}
}
