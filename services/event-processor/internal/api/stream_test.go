package api

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// A stream that starts in the past reaches the present while eight writers go
// on, and gets every event once, in order.
func TestAStreamHasNoGapAndNoDouble(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant, other := dbtest.Tenant(t, w.db), dbtest.Tenant(t, w.db)
	const before, writers, each = 250, 8, 40
	for range before / 50 {
		var facts []journal.Fact
		for range 50 {
			facts = append(facts, newFact(tenant, "x", "run"))
		}
		w.record(facts...)
	}
	stream, err := w.events.StreamEvents(w.as(tenant, "event:read"), &eventstorev1.StreamEventsRequest{
		StartPosition: &eventstorev1.StreamEventsRequest_StartSequence{StartSequence: 1}})
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for range writers {
		g.Go(func() error {
			for range each {
				r, err := w.store.Record(t.Context(), []journal.Fact{newFact(tenant, "x", "run"), newFact(other, "x", "run")})
				if err != nil {
					return err
				}
				w.hub.Moved(r.Heads)
			}
			return nil
		})
	}
	for want := int64(1); want <= before+writers*each; want++ {
		e := receive(t, stream)
		if e.GetStreamSequence() != want || e.GetTenantId() != tenant.String() {
			t.Fatalf("position %d of tenant %s, want %d", e.GetStreamSequence(), e.GetTenantId(), want)
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// Without a start, only what is stored after the stream's header comes; what
// another process stores comes too, by polling.
func TestAStreamFollowsOtherProcesses(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant := dbtest.Tenant(t, w.db)
	w.record(newFact(tenant, "x", "old"))
	stream, err := w.events.StreamEvents(w.as(tenant, "event:read"), &eventstorev1.StreamEventsRequest{
		EventType: "x", ExecutionId: "run", WorkflowId: "flow", Labels: map[string]string{"env": "prod"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	w.record(newFact(tenant, "y", "run", "env", "prod"), newFact(tenant, "x", "run", "env", "dev"), newFact(tenant, "x", "other", "env", "prod"))
	wanted := newFact(tenant, "x", "run", "env", "prod")
	w.record(wanted)
	if got := receive(t, stream).GetEventId(); got != wanted.ID.String() {
		t.Errorf("event %s, want %s", got, wanted.ID)
	}
}

func TestAStreamStartsWhereItIsTold(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant := dbtest.Tenant(t, w.db)
	for range 5 {
		w.record(newFact(tenant, "x", "run"))
	}
	all, err := w.events.QueryEvents(w.as(tenant, "event:read"), &eventstorev1.QueryEventsRequest{Order: 1})
	if err != nil {
		t.Fatal(err)
	}
	for want, req := range map[int64]*eventstorev1.StreamEventsRequest{
		1: {StartPosition: &eventstorev1.StreamEventsRequest_StartSequence{}},
		3: {StartPosition: &eventstorev1.StreamEventsRequest_StartSequence{StartSequence: 3}},
		4: {StartPosition: &eventstorev1.StreamEventsRequest_StartTime{StartTime: all.GetEvents()[3].GetStoredAt()}},
		5: {StartPosition: &eventstorev1.StreamEventsRequest_StartTime{StartTime: timestamppb.New(all.GetEvents()[3].GetStoredAt().AsTime().Add(1000))}},
	} {
		stream, err := w.events.StreamEvents(w.as(tenant, "event:read"), req)
		if err != nil {
			t.Fatal(err)
		}
		if got := receive(t, stream).GetStreamSequence(); got != want {
			t.Errorf("%v starts with %d, want %d", req, got, want)
		}
	}
}

func TestAStreamEndsWhenTheServerDrains(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant := dbtest.Tenant(t, w.db)
	stream, err := w.events.StreamEvents(w.as(tenant, "event:read"), &eventstorev1.StreamEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if _, err := stream.Recv(); !errors.Is(err, fault.Down) {
		t.Errorf("%v", err)
	}
}

// One tenant's streams are bounded, and ending one makes room.
func TestATenantHasSoManyStreams(t *testing.T) {
	t.Parallel()
	w := serve(t)
	w.hub.Most = 2
	tenant := dbtest.Tenant(t, w.db)
	first, err := w.hub.Listen(tenant)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.hub.Listen(tenant); err != nil {
		t.Fatal(err)
	}
	stream, err := w.events.StreamEvents(w.as(tenant, "event:read"), &eventstorev1.StreamEventsRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, fault.Exhausted) {
		t.Errorf("a third: %v", err)
	}
	if _, err := w.hub.Listen(uuid.New()); err != nil {
		t.Errorf("another tenant's first: %v", err)
	}
	first.Close()
	if _, err := w.hub.Listen(tenant); err != nil {
		t.Errorf("after one ended: %v", err)
	}
}
