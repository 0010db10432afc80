package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/tail"
)

// world is a served journal.
type world struct {
	t      *testing.T
	db     *dbtest.Database
	store  *postgres.Store
	hub    *tail.Hub
	events eventstorev1.EventStoreServiceClient
	agents agentv1.AgentServiceClient
	stop   func() // drains the server
}

func serve(t *testing.T) *world {
	t.Helper()
	d := dbtest.New(t)
	w := &world{t: t, db: d, store: postgres.New(d.DB, "event-processor")}
	w.hub = &tail.Hub{Heads: w.store.Heads, Every: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	eventstorev1.RegisterEventStoreServiceServer(srv.GRPC(), NewEvents(w.store, w.hub))
	agentv1.RegisterAgentServiceServer(srv.GRPC(), NewAgents(w.store))
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served, polled := make(chan error, 1), make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, srv, ln, 10*time.Second) }()
	go func() { polled <- w.hub.Run(ctx) }()
	w.stop = cancel
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		<-polled
	})
	w.events, w.agents = eventstorev1.NewEventStoreServiceClient(conn), agentv1.NewAgentServiceClient(conn)
	return w
}

// as is a context in which the tenant calls.
func (w *world) as(tenant uuid.UUID, scopes ...string) context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	w.t.Cleanup(cancel)
	return identity.With(ctx, identity.Principal{Tenant: tenant, KeyID: "k", Scopes: scopes})
}

// record stores facts the way another process does: nobody here is told.
func (w *world) record(facts ...journal.Fact) map[uuid.UUID]int64 {
	w.t.Helper()
	r, err := w.store.Record(w.t.Context(), facts)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Heads
}

func newFact(tenant uuid.UUID, kind, execution string, labels ...string) journal.Fact {
	f := journal.Fact{
		Tenant: tenant, ID: uuid.Must(uuid.NewV7()), Type: kind, System: true, Writer: "gateway", OccurredAt: time.Now().UTC(),
		ExecutionID: execution, WorkflowID: "flow", Payload: `{"n": 1, "deep": {"list": [1, null, "x"]}}`, Labels: "{}", Size: 10,
	}
	if len(labels) == 2 {
		f.Labels = fmt.Sprintf(`{%q: %q, "other": "1"}`, labels[0], labels[1])
	}
	return f
}

func receive(t *testing.T, stream grpc.ServerStreamingClient[eventstorev1.StreamEventsResponse]) *eventstorev1.StoredEvent {
	t.Helper()
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetEvent()
}
