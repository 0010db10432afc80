package app

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
)

// running is the service as its process would run it, on ports of its own.
type running struct {
	t     *testing.T
	db    *dbtest.Database
	grpc  string
	ops   string
	stop  func()
	ended chan error
}

const grpcAddr, opsAddr = "127.0.0.1:50055", "127.0.0.1:9105"

func start(t *testing.T) *running {
	t.Helper()
	jet, err := devstack.StartNATS(devstack.NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = jet.Stop() })
	u, err := url.Parse(jet.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	d := dbtest.New(t)

	addrs := make(chan [2]string, 2)
	env := service.Env{
		Log: slog.New(slog.DiscardHandler), Stdout: io.Discard, Version: "test",
		Getenv: config.Map(map[string]string{
			"POSTGRES_CONN_STR": d.AppURL, "NATS_URL": jet.ClientURL(), "NATS_USER": u.User.Username(), "NATS_PASSWORD": password,
			"EVENT_PROCESSOR_ADDR": grpcAddr, "EVENT_PROCESSOR_OPS_ADDR": opsAddr,
			"EVENT_PROCESSOR_WEBHOOK_KEK": base64.StdEncoding.EncodeToString(make([]byte, 32)), "EVENT_PROCESSOR_WEBHOOK_NETWORKS": "127.0.0.0/8",
			"FULCRUM_DRAIN": "5s",
		}),
		Listen: func(ctx context.Context, addr string) (net.Listener, error) {
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err == nil {
				addrs <- [2]string{addr, ln.Addr().String()}
			}
			return ln, err
		},
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{t: t, db: d, stop: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- Run(ctx, env) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the service did not end")
		}
	})
	for range 2 {
		select {
		case a := <-addrs:
			if a[0] == opsAddr {
				r.ops = a[1]
			} else {
				r.grpc = a[1]
			}
		case err := <-r.ended:
			t.Fatalf("the service did not start: %v", err)
		}
	}
	return r
}

func (r *running) get(path string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.ops+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// What another service commits to its outbox reaches a client's open stream,
// the store and the metrics; stopping ends the stream and then the process.
func TestTheServiceCarriesEventsFromOutboxToClients(t *testing.T) {
	t.Parallel()
	r := start(t)
	tenant, agent := dbtest.Tenant(t, r.db), uuid.NewString()
	conn, err := rpc.Dial(r.grpc, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx = identity.With(ctx, identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"*"}})
	events, metrics := eventstorev1.NewEventStoreServiceClient(conn), agentv1.NewAgentServiceClient(conn)

	stream, err := events.StreamEvents(ctx, &eventstorev1.StreamEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	decision := &busv1.Event{TenantId: tenant.String(), Type: "decision_made", Writer: "gateway", Origin: busv1.Origin_ORIGIN_SYSTEM,
		ExecutionId: "run", AgentId: agent, Decision: "DENY", Latency: &busv1.LatencyFact{TotalUs: 900}}
	err = r.db.DB.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error { return outbox.Append(ctx, tx, decision) })
	if err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || got.GetEvent().GetEventId() != decision.GetEventId() || got.GetEvent().GetSequenceNumber() != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	page, err := events.QueryEvents(ctx, &eventstorev1.QueryEventsRequest{EventType: "decision_made"})
	if err != nil || len(page.GetEvents()) != 1 {
		t.Errorf("%v, %v", page, err)
	}
	m, err := metrics.GetAgentMetrics(ctx, &agentv1.GetAgentMetricsRequest{AgentId: agent})
	if err != nil || m.GetCurrent().GetRequestCount()+int32(len(m.GetMetrics())) != 1 { // midnight may have passed
		t.Errorf("%v, %v", m, err)
	}
	if _, err := events.PublishEvent(ctx, &eventstorev1.PublishEventRequest{Event: &eventstorev1.EventPayload{EventType: "x"}}); rpc.PeerCode(err).String() != "Unimplemented" {
		t.Errorf("publishing is the gateway's: %v", err)
	}

	if code, body := r.get("/readyz"); code != http.StatusOK || !strings.Contains(body, "postgres") {
		t.Errorf("ready: %d %s", code, body)
	}
	_, body := r.get("/metrics")
	for _, name := range []string{"fulcrum_events_lag_seconds_bucket", "fulcrum_events_batch", "fulcrum_events_stored", "fulcrum_outbox_sent"} {
		if !strings.Contains(body, name) {
			t.Errorf("no metric %s", name)
		}
	}

	r.stop()
	if _, err := stream.Recv(); !errors.Is(err, fault.Down) {
		t.Errorf("the stream of a stopping service: %v", err)
	}
}

// What is committed to an outbox comes to a tenant's own server by way of the
// journal, and is counted.
func TestTheServiceTellsATenantsServer(t *testing.T) {
	t.Parallel()
	told := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("Webhook-Id")
	}))
	t.Cleanup(srv.Close)
	r := start(t)
	tenant := dbtest.Tenant(t, r.db)
	conn, err := rpc.Dial(r.grpc, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx = identity.With(ctx, identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"*"}})
	if _, err := controlplanev1.NewWebhookServiceClient(conn).CreateWebhook(ctx, &controlplanev1.CreateWebhookRequest{Url: srv.URL}); err != nil {
		t.Fatal(err)
	}
	e := &busv1.Event{
		EventId: uuid.Must(uuid.NewV7()).String(), TenantId: tenant.String(), Type: "approval_requested", Writer: "gateway", Origin: busv1.Origin_ORIGIN_SYSTEM,
		OccurredAt: timestamppb.Now(), Stream: busv1.Stream_STREAM_EVENTS, Labels: map[string]string{"approval_id": uuid.NewString()},
	}
	if err := r.db.DB.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error { return outbox.Append(ctx, tx, e) }); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-told:
		if id != "msg_"+strings.ReplaceAll(e.GetEventId(), "-", "") {
			t.Errorf("told of %s, want %s", id, e.GetEventId())
		}
	case <-ctx.Done():
		t.Fatal("the server was told nothing")
	}
	counted := regexp.MustCompile(`(?m)^fulcrum_webhooks_attempts_total\{[^}]*outcome="delivered"[^}]*\} 1$`)
	for {
		if _, metrics := r.get("/metrics"); counted.MatchString(metrics) {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("it was not counted")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// What is committed to an outbox comes to the detectors by a consumer of their
// own, and opens one incident, whose event goes the same way back.
func TestTheDetectorsWatchTheStream(t *testing.T) {
	t.Parallel()
	r := start(t)
	tenant := dbtest.Tenant(t, r.db)
	conn, err := rpc.Dial(r.grpc, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx = identity.With(ctx, identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"*"}})
	reasons, err := structpb.NewStruct(map[string]any{"reasons": []any{map[string]any{"policy_id": "p", "decision": "DENY"}}})
	if err != nil {
		t.Fatal(err)
	}
	at := timestamppb.Now() // all in one window
	for range 25 {
		e := &busv1.Event{TenantId: tenant.String(), Type: "decision_made", Writer: "gateway", Origin: busv1.Origin_ORIGIN_SYSTEM, OccurredAt: at,
			AgentId: "agent-1", ApiKeyId: "another", Decision: "DENY", Payload: reasons}
		if err := r.db.DB.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error { return outbox.Append(ctx, tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := eventstorev1.NewEventStoreServiceClient(conn).StreamEvents(ctx, &eventstorev1.StreamEventsRequest{
		EventType: "incident_opened", StartPosition: &eventstorev1.StreamEventsRequest_StartSequence{StartSequence: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	list, err := brainv1.NewImmuneSystemServiceClient(conn).ListIncidents(ctx, &brainv1.ListIncidentsRequest{})
	if err != nil || len(list.GetIncidents()) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if id := got.GetEvent().GetPayload().GetFields()["incident_id"].GetStringValue(); id != list.GetIncidents()[0].GetIncidentId() {
		t.Errorf("the event is of %s, the incident is %v", id, list.GetIncidents()[0])
	}
}

func TestASettingThatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), service.Env{Getenv: config.Map(map[string]string{"EVENTSTORE_RETENTION_DAYS": "none", "EVENT_PROCESSOR_BATCH": "0"})})
	if err == nil || !strings.Contains(err.Error(), "EVENTSTORE_RETENTION_DAYS") || !strings.Contains(err.Error(), "EVENT_PROCESSOR_BATCH") {
		t.Errorf("%v", err)
	}
}
