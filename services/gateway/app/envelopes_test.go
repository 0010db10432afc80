package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

type opener struct {
	t      *testing.T
	client envelopev1.EnvelopeServiceClient
	key    string
}

func (o opener) open(req *envelopev1.CreateEnvelopeRequest) *envelopev1.ExecutionEnvelope {
	o.t.Helper()
	resp, err := o.client.CreateEnvelope(as(o.t, o.key), req)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.GetEnvelope()
}

func (o opener) status(id string) envelopev1.EnvelopeStatus {
	o.t.Helper()
	resp, err := o.client.GetEnvelope(as(o.t, o.key), &envelopev1.GetEnvelopeRequest{EnvelopeId: id})
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.GetEnvelope().GetStatus()
}

// Killing an envelope kills what is below it, refuses what it asks for next,
// and gives its holds back.
func TestAKillReachesEverythingBelow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	root := o.open(&envelopev1.CreateEnvelopeRequest{})
	child := o.open(&envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: root.GetEnvelopeId()})
	grandchild := o.open(&envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: child.GetEnvelopeId()})
	beside := o.open(&envelopev1.CreateEnvelopeRequest{})
	if resp, err := governanceOf(g).Authorize(as(t, o.key), toolCall(grandchild.GetEnvelopeId())); err != nil || resp.GetHold() == nil {
		t.Fatal(resp, err)
	}

	killed, err := o.client.TerminateEnvelope(as(t, o.key), &envelopev1.TerminateEnvelopeRequest{EnvelopeId: root.GetEnvelopeId(), Reason: "runaway"})
	if err != nil || len(killed.GetTerminatedDescendantIds()) != 2 {
		t.Fatal(killed, err)
	}
	if again, err := o.client.TerminateEnvelope(as(t, o.key), &envelopev1.TerminateEnvelopeRequest{EnvelopeId: root.GetEnvelopeId()}); err != nil || len(again.GetTerminatedDescendantIds()) != 0 {
		t.Errorf("killed again: %v, %v", again, err)
	}
	for _, id := range []string{root.GetEnvelopeId(), child.GetEnvelopeId(), grandchild.GetEnvelopeId()} {
		if s := o.status(id); s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_TERMINATED {
			t.Errorf("%s is %v", id, s)
		}
		if resp, err := governanceOf(g).Authorize(as(t, o.key), toolCall(id)); err != nil || resp.GetDecision() != denied || resp.GetReasons()[0].GetRuleId() != "ENVELOPE_NOT_ACTIVE" {
			t.Errorf("an action after the kill: %v, %v", resp, err)
		}
	}
	if s := o.status(beside.GetEnvelopeId()); s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED {
		t.Errorf("the neighbour is %v", s)
	}
	if _, err := o.client.CreateEnvelope(as(t, o.key), &envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: child.GetEnvelopeId()}); !fault.Is(err, fault.Precondition) {
		t.Errorf("a child of a killed envelope: %v", err)
	}
	eventually(t, "the hold is given back", func() bool { return w.ledger.count("RELEASED") == 1 && w.ledger.count("HELD") == 0 })
}

// An envelope past its time times out, and what is below it ends.
func TestAnEnvelopeTimesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	root := o.open(&envelopev1.CreateEnvelopeRequest{Governance: &envelopev1.GovernanceContext{TimeoutSeconds: 1}})
	child := o.open(&envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: root.GetEnvelopeId(), Governance: &envelopev1.GovernanceContext{TimeoutSeconds: 3600}})
	watch, err := o.client.WatchEnvelope(as(t, o.key), &envelopev1.WatchEnvelopeRequest{EnvelopeId: root.GetEnvelopeId()})
	if err != nil {
		t.Fatal(err)
	}
	var last *envelopev1.WatchEnvelopeResponse
	for {
		next, err := watch.Recv()
		if err != nil {
			break
		}
		last = next
	}
	if s := last.GetEnvelope().GetStatus(); s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_TIMEOUT {
		t.Errorf("the watched envelope ended as %v", s)
	}
	if s := o.status(child.GetEnvelopeId()); s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_TERMINATED && s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_TIMEOUT {
		t.Errorf("the child is %v", s)
	}
}

// The database refuses a move that is not in the table, whoever asks.
func TestStatusMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	const (
		running   = envelopev1.EnvelopeStatus_ENVELOPE_STATUS_RUNNING
		paused    = envelopev1.EnvelopeStatus_ENVELOPE_STATUS_PAUSED
		completed = envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED
		failed    = envelopev1.EnvelopeStatus_ENVELOPE_STATUS_FAILED
	)
	id := o.open(&envelopev1.CreateEnvelopeRequest{}).GetEnvelopeId()
	for _, step := range []struct {
		to envelopev1.EnvelopeStatus
		ok bool
	}{
		{completed, false}, {running, true}, {running, true}, {paused, true}, {completed, false}, {running, true},
		{envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED, false}, {envelopev1.EnvelopeStatus_ENVELOPE_STATUS_TIMEOUT, false},
		{completed, true}, {completed, true}, {failed, false}, {running, false},
	} {
		_, err := o.client.UpdateEnvelopeStatus(as(t, o.key), &envelopev1.UpdateEnvelopeStatusRequest{EnvelopeId: id, Status: step.to, Reason: "test"})
		if step.ok && err != nil || !step.ok && !fault.Is(err, fault.Precondition) {
			t.Errorf("to %v: %v", step.to, err)
		}
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'envelope_status_changed'`); n != 4 {
		t.Errorf("%d moves were told of", n)
	}
}

// Published clients report the end of an execution and never ask for a move.
func TestEventsCloseEnvelopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	store := eventstorev1.NewEventStoreServiceClient(g.conn)
	for kind, want := range map[string]envelopev1.EnvelopeStatus{
		"execution_completed": envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED,
		"execution_failed":    envelopev1.EnvelopeStatus_ENVELOPE_STATUS_FAILED,
		"execution_started":   envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED,
	} {
		id := o.open(&envelopev1.CreateEnvelopeRequest{}).GetEnvelopeId()
		payload, _ := structpb.NewStruct(map[string]any{"step": 1})
		resp, err := store.PublishEvent(as(t, o.key), &eventstorev1.PublishEventRequest{Event: &eventstorev1.EventPayload{
			EnvelopeId: id, EventType: kind, Payload: payload, TenantId: w.tenant.String(),
		}})
		if err != nil || uuid.Validate(resp.GetEventId()) != nil || resp.GetStoredAt() == nil {
			t.Fatal(resp, err)
		}
		if s := o.status(id); s != want {
			t.Errorf("after %s: %v", kind, s)
		}
		if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where event_id = $1`, resp.GetEventId()); n != 1 {
			t.Errorf("%d rows for the event", n)
		}
	}
	large := &eventstorev1.EventPayload{EventType: "large", Payload: &structpb.Struct{Fields: map[string]*structpb.Value{
		"x": structpb.NewStringValue(strings.Repeat("x", 1<<20))}}}
	if _, err := store.PublishEvent(as(t, o.key), &eventstorev1.PublishEventRequest{Event: large}); !fault.Is(err, fault.Invalid) || !fault.HasReason(err, "EVENT_TOO_LARGE") {
		t.Errorf("a large event: %v", err)
	}
	batch := &eventstorev1.PublishEventBatchRequest{}
	for range 1000 {
		batch.Events = append(batch.Events, &eventstorev1.EventPayload{EventType: "my_event", EnvelopeId: "not-an-id-of-ours"})
	}
	if resp, err := store.PublishEventBatch(as(t, o.key), batch); err != nil || resp.GetPublishedCount() != 1000 || len(resp.GetEventIds()) != 1000 {
		t.Error(resp.GetPublishedCount(), err)
	}
}

// A rule with TERMINATE ends the envelope with the denial.
func TestATerminatingDenialEndsTheEnvelope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	id := o.open(&envelopev1.CreateEnvelopeRequest{}).GetEnvelopeId()
	child := o.open(&envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: id}).GetEnvelopeId()
	w.engine.decides(denied, func(r *policyenginev1.EvaluateResponse) { r.TerminateEnvelope = true })
	if resp, err := governanceOf(g).Authorize(as(t, o.key), toolCall(id)); err != nil || resp.GetDecision() != denied {
		t.Fatal(resp, err)
	}
	if s := o.status(id); s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_POLICY_VIOLATION {
		t.Errorf("the envelope is %v", s)
	}
	if s := o.status(child); s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_TERMINATED {
		t.Errorf("its child is %v", s)
	}
}

// CreateEnvelope judges by PRE_EXECUTION policies and by the budget it names.
func TestOpeningAnEnvelope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	e := o.open(&envelopev1.CreateEnvelopeRequest{BudgetId: okBudget, WorkflowId: "w", Metadata: map[string]string{"tool_name": "t"}})
	if e.GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED || e.GetGovernance().GetBudgetId() != okBudget || e.GetWorkflowId() != "w" {
		t.Errorf("opened: %v", e)
	}
	if asked := w.engine.asked[len(w.engine.asked)-1].GetFacts(); asked.GetPhase() != policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_EXECUTION ||
		asked.GetToolNames()[0] != "t" || asked.GetAttributes()["tool_name"] != "t" {
		t.Errorf("judged: %v", asked)
	}
	if e := o.open(&envelopev1.CreateEnvelopeRequest{BudgetId: spentBudget}); e.GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_BUDGET_EXCEEDED || e.GetCompletedAt() == nil {
		t.Errorf("with a spent budget: %v", e)
	}
	if _, err := o.client.CreateEnvelope(as(t, o.key), &envelopev1.CreateEnvelopeRequest{BudgetId: uuid.NewString()}); !fault.Is(err, fault.NotFound) || !fault.HasReason(err, "BUDGET_NOT_FOUND") {
		t.Errorf("with a budget of nobody: %v", err)
	}
	w.engine.decides(denied)
	if e := o.open(&envelopev1.CreateEnvelopeRequest{}); e.GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_POLICY_VIOLATION || e.GetMetadata()["fulcrum.status_reason"] != "denied: because of a rule" {
		t.Errorf("denied: %v", e)
	}
}

// A tree is at most ten deep and has at most a hundred envelopes under its
// root, also when many open at once.
func TestTreesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	deep := o.open(&envelopev1.CreateEnvelopeRequest{}).GetEnvelopeId()
	for range 10 {
		deep = o.open(&envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: deep}).GetEnvelopeId()
	}
	if _, err := o.client.CreateEnvelope(as(t, o.key), &envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: deep}); !fault.HasReason(err, "ENVELOPE_TOO_DEEP") {
		t.Errorf("an eleventh level: %v", err)
	}

	root := o.open(&envelopev1.CreateEnvelopeRequest{}).GetEnvelopeId()
	const crowd = 130
	errs := make(chan error, crowd)
	for range crowd {
		go func() {
			_, err := o.client.CreateEnvelope(as(t, o.key), &envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: root})
			errs <- err
		}()
	}
	made := 0
	for range crowd {
		switch err := <-errs; {
		case err == nil:
			made++
		case !fault.HasReason(err, "ENVELOPE_TREE_FULL"):
			t.Error(err)
		}
	}
	if made != 100 {
		t.Errorf("%d were opened", made)
	}
}

// An inline envelope opens with its first action, once, and not without it.
func TestAnInlineEnvelopeOpensWithItsFirstAction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	req := toolCall("")
	req.Envelope = &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{
		AgentId: "agent-9", WorkflowId: "w", Governance: &envelopev1.GovernanceContext{CostLimitUsd: 1, AllowedTools: []string{"send_email"}},
	}}
	resp, err := governanceOf(g).Authorize(as(t, o.key), req)
	if err != nil || resp.GetEnvelopeId() == "" {
		t.Fatal(resp, err)
	}
	again, err := governanceOf(g).Authorize(as(t, o.key), req)
	if err != nil || again.GetEnvelopeId() != resp.GetEnvelopeId() {
		t.Fatal(again, err)
	}
	if s := o.status(resp.GetEnvelopeId()); s != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_RUNNING {
		t.Errorf("it is %v", s)
	}
	w.engine.decides(denied)
	refused := toolCall("")
	refused.Envelope = req.GetEnvelope()
	if resp, err := governanceOf(g).Authorize(as(t, o.key), refused); err != nil || resp.GetDecision() != denied || resp.GetEnvelopeId() != "" {
		t.Errorf("refused: %v, %v", resp, err)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.envelopes`); n != 1 {
		t.Errorf("%d envelopes", n)
	}
}

// Published clients name no policy: all active ones decide, and it is recorded.
func TestEvaluatingWithoutNamingAPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "policy:read")
	client := policyv1.NewPolicyServiceClient(g.conn)
	guard := &policyv1.EvaluatePolicyRequest{Context: &policyv1.EvaluationContext{
		TenantId: w.tenant.String(), WorkflowId: "w", InputText: "hello", Attributes: map[string]string{"action": "send"},
	}}
	if resp, err := client.EvaluatePolicy(as(t, key), guard); err != nil || resp.GetResult().GetDecision() != policyv1.EvaluationDecision_EVALUATION_DECISION_ALLOW {
		t.Fatal(resp, err)
	}
	w.engine.decides(denied)
	resp, err := client.EvaluatePolicy(as(t, key), guard)
	if err != nil || resp.GetResult().GetDecision() != policyv1.EvaluationDecision_EVALUATION_DECISION_DENY || resp.GetResult().GetMessage() != "because of a rule" ||
		resp.GetResult().GetMetadata()["decision_id"] == "" || resp.GetResult().GetPolicyVersion() != 3 {
		t.Errorf("denied: %v, %v", resp, err)
	}
	all, err := client.EvaluatePolicies(as(t, key), &policyv1.EvaluatePoliciesRequest{Context: guard.GetContext(), DryRun: true})
	if err != nil || all.GetFinalDecision() != policyv1.EvaluationDecision_EVALUATION_DECISION_DENY || len(all.GetResults()) != 1 {
		t.Errorf("all: %v, %v", all, err)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions where method = 'evaluate'`); n != 2 {
		t.Errorf("%d are recorded: dry runs should not be", n)
	}
	history, err := client.GetEvaluationHistory(as(t, key), &policyv1.GetEvaluationHistoryRequest{
		PolicyId: "0199c0de-0000-7000-8000-000000000001", Decision: policyv1.EvaluationDecision_EVALUATION_DECISION_DENY,
	})
	if err != nil || len(history.GetEvaluations()) != 1 || time.Since(history.GetEvaluations()[0].GetEvaluatedAt().AsTime()) > time.Minute {
		t.Errorf("history: %v, %v", history, err)
	}
}

// Lists page through everything once, newest first.
func TestListsPageThroughEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	seen := make(map[string]bool)
	for range 7 {
		o.open(&envelopev1.CreateEnvelopeRequest{WorkflowId: "paged"})
	}
	o.open(&envelopev1.CreateEnvelopeRequest{WorkflowId: "other"})
	req := &envelopev1.ListEnvelopesRequest{WorkflowId: "paged", PageSize: 3}
	for pages := 1; ; pages++ {
		resp, err := o.client.ListEnvelopes(as(t, o.key), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.GetEnvelopes() {
			if seen[e.GetEnvelopeId()] {
				t.Errorf("%s came twice", e.GetEnvelopeId())
			}
			seen[e.GetEnvelopeId()] = true
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d envelopes", len(seen))
	}
	if _, err := o.client.ListEnvelopes(as(t, o.key), &envelopev1.ListEnvelopesRequest{PageToken: "rubbish"}); !fault.HasReason(err, "PAGE_TOKEN_INVALID") {
		t.Errorf("a token of nobody: %v", err)
	}
}
