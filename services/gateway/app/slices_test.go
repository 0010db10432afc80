package app_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

func sliceOf(parent string, usd float64, timeout int64) *envelopev1.CreateEnvelopeRequest {
	return &envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: parent, Governance: &envelopev1.GovernanceContext{
		CostLimitUsd: usd, TimeoutSeconds: timeout, SliceOfParent: true,
	}}
}

// state is what the ledger knows about one hold or slice.
func (l *ledger) state(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds[id]
}

// By whatever way an envelope ends, its slice goes back and its holds do, and
// nothing is left to be given back.
func TestASliceComesBackHoweverTheChildEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	move := func(id string, to envelopev1.EnvelopeStatus) {
		t.Helper()
		if _, err := o.client.UpdateEnvelopeStatus(as(t, o.key), &envelopev1.UpdateEnvelopeStatusRequest{EnvelopeId: id, Status: to}); err != nil {
			t.Error(err)
		}
	}
	kill := func(id string) {
		t.Helper()
		if _, err := o.client.TerminateEnvelope(as(t, o.key), &envelopev1.TerminateEnvelopeRequest{EnvelopeId: id}); err != nil {
			t.Error(err)
		}
	}
	for name, tt := range map[string]struct {
		timeout int64
		end     func(parent, child string)
	}{
		"completed":      {0, func(_, child string) { move(child, envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED) }},
		"failed":         {0, func(_, child string) { move(child, envelopev1.EnvelopeStatus_ENVELOPE_STATUS_FAILED) }},
		"killed":         {0, func(_, child string) { kill(child) }},
		"parent killed":  {0, func(parent, _ string) { kill(parent) }},
		"its time is up": {1, func(string, string) {}},
		"an event says so": {0, func(_, child string) {
			_, err := eventstorev1.NewEventStoreServiceClient(g.conn).PublishEvent(as(t, o.key), &eventstorev1.PublishEventRequest{
				Event: &eventstorev1.EventPayload{EnvelopeId: child, EventType: "execution_completed"},
			})
			if err != nil {
				t.Error(err)
			}
		}},
	} {
		parent := o.open(&envelopev1.CreateEnvelopeRequest{Governance: &envelopev1.GovernanceContext{CostLimitUsd: 5}}).GetEnvelopeId()
		child := o.open(sliceOf(parent, 2, tt.timeout)).GetEnvelopeId()
		resp, err := governanceOf(g).Authorize(as(t, o.key), toolCall(child))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if tt.timeout == 0 && (w.ledger.state("slice "+child) != "HELD" || resp.GetHold() == nil) {
			t.Fatalf("%s: the slice is %q, the answer %v", name, w.ledger.state("slice "+child), resp)
		}
		tt.end(parent, child)
		eventually(t, name+": the slice and the hold come back", func() bool {
			return w.ledger.state("slice "+child) == "RETURNED" && w.ledger.count("HELD") == 0
		})
	}
	eventually(t, "nothing is left to give back", func() bool {
		return dbtest.Count(t, w.db, `select count(*) from fulcrum.open_slices`)+dbtest.Count(t, w.db, `select count(*) from fulcrum.envelopes where holds_open`) == 0
	})
}

// What an ended envelope and its descendants hold comes back although the ledger
// was away when they ended and the gateway that ended them is gone: another one
// finds it in the database.
func TestHoldsOfAnEndedEnvelopeOutliveTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	root := o.open(&envelopev1.CreateEnvelopeRequest{Governance: &envelopev1.GovernanceContext{CostLimitUsd: 5}}).GetEnvelopeId()
	child := o.open(sliceOf(root, 2, 0)).GetEnvelopeId()
	grandchild := o.open(sliceOf(child, 1, 0)).GetEnvelopeId()
	for _, id := range []string{root, child, grandchild} {
		for range 2 {
			if resp, err := governanceOf(g).Authorize(as(t, o.key), toolCall(id)); err != nil || resp.GetHold() == nil {
				t.Fatal(resp, err)
			}
		}
	}
	away := func(is bool) {
		w.ledger.mu.Lock()
		w.ledger.stuck = is
		w.ledger.mu.Unlock()
	}
	away(true)
	if _, err := o.client.TerminateEnvelope(as(t, o.key), &envelopev1.TerminateEnvelopeRequest{EnvelopeId: root}); err != nil {
		t.Fatal(err)
	}
	g.stop()
	if n := w.ledger.count("HELD"); n != 6+2 {
		t.Fatalf("%d holds and slices left, want all", n)
	}
	away(false)
	other := w.gateway()
	ready(t, other)
	eventually(t, "all is given back", func() bool {
		return w.ledger.count("RELEASED") == 6 && w.ledger.count("RETURNED") == 2 && w.ledger.count("HELD") == 0
	})
	eventually(t, "and done with", func() bool {
		return dbtest.Count(t, w.db, `select count(*) from fulcrum.open_slices`)+dbtest.Count(t, w.db, `select count(*) from fulcrum.envelopes where holds_open`) == 0
	})
}

// A gateway that died between asking the ledger and recording the envelope
// leaves a slice of nobody's: it is returned, while a fresh one is left alone.
func TestASliceOfNoEnvelopeIsReturned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lost, fresh := uuid.NewString(), uuid.NewString()
	dbtest.Admin(t, w.db,
		`insert into fulcrum.open_slices (tenant_id, envelope_id, created_at) values ('`+w.tenant.String()+`', '`+lost+`', now() - interval '2 minutes')`,
		`insert into fulcrum.open_slices (tenant_id, envelope_id) values ('`+w.tenant.String()+`', '`+fresh+`')`)
	g := w.gateway()
	ready(t, g)
	eventually(t, "it is returned", func() bool {
		return w.ledger.state("slice "+lost) == "RETURNED" && dbtest.Count(t, w.db, `select count(*) from fulcrum.open_slices`) == 1
	})
	if s := w.ledger.state("slice " + fresh); s != "" {
		t.Errorf("the fresh one is %s", s)
	}
}

// A slice that does not fit ends the envelope before it begins, with the reason;
// one that makes no sense is refused by its field, and nothing is opened.
func TestASliceThatCannotBeTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	o := opener{t, envelopev1.NewEnvelopeServiceClient(g.conn), w.key(w.tenant, "*")}
	parent := o.open(&envelopev1.CreateEnvelopeRequest{Governance: &envelopev1.GovernanceContext{CostLimitUsd: 5, MaxLlmCalls: 3}}).GetEnvelopeId()
	whole := sliceOf(parent, 2, 0)
	whole.Governance.MaxLlmCalls = 2

	for name, tt := range map[string]struct {
		req   *envelopev1.CreateEnvelopeRequest
		field string
	}{
		"without a parent":        {sliceOf("", 2, 0), "governance.slice_of_parent"},
		"without limits":          {sliceOf(parent, 0, 0), "governance.slice_of_parent"},
		"without one that counts": {sliceOf(parent, 2, 0), "governance.max_llm_calls"},
	} {
		_, err := o.client.CreateEnvelope(as(t, o.key), tt.req)
		if f, ok := fault.As(err); !ok || f.Kind != fault.Invalid || f.Violations[0].Field != tt.field {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := governanceOf(g).Authorize(as(t, o.key), &governancev1.AuthorizeRequest{
		Envelope: &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{ParentEnvelopeId: parent, Governance: whole.GetGovernance()}},
		Action:   &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "search"}, IdempotencyKey: "inline",
	})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("inline: %v", err)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.envelopes`); n != 1 {
		t.Errorf("%d envelopes, want the parent alone", n)
	}
	w.ledger.mu.Lock()
	w.ledger.noSlices = true
	w.ledger.mu.Unlock()
	refused := o.open(whole)
	if refused.GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_BUDGET_EXCEEDED || refused.GetMetadata()["fulcrum.status_reason"] == "" {
		t.Errorf("refused: %v", refused)
	}
	eventually(t, "it is never taken", func() bool { return w.ledger.state("slice "+refused.GetEnvelopeId()) == "RETURNED" })
}
