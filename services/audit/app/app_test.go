package app_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/audit/app"
)

const token = "test-internal-token"

// start runs the whole service in this process and stops it with the test.
func start(t *testing.T, d *dbtest.Database, natsURL string) auditv1.AuditServiceClient {
	t.Helper()
	private, _, err := note.GenerateKey(rand.Reader, "test/audit")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	env := service.Env{
		Getenv: config.Map(map[string]string{
			"POSTGRES_CONN_STR": d.AppURL, "NATS_URL": natsURL, "FULCRUM_AUDIT_KEY": private, "FULCRUM_INTERNAL_TOKEN": token,
			"AUDIT_ADDR": ln.Addr().String(), "AUDIT_OPS_ADDR": "127.0.0.1:0",
		}),
		Log: slog.New(slog.DiscardHandler),
		Listen: func(_ context.Context, addr string) (net.Listener, error) {
			if addr == ln.Addr().String() {
				return ln, nil
			}
			return net.Listen("tcp", addr)
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, env) }()
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{InternalToken: secret.New(token),
		Extra: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.WaitForReady(true))}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return auditv1.NewAuditServiceClient(conn)
}

func reader(tenant uuid.UUID) identity.Principal {
	return identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"audit:read"}}
}

func TestAnEventOnTheBusBecomesAProvableEntryOfItsTenantOnly(t *testing.T) {
	t.Parallel()

	d := dbtest.New(t)
	n, err := devstack.StartNATS(devstack.NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop() })
	client := start(t, d, n.URL())
	b, err := bus.Connect(config.NATSSettings{URL: n.URL()}, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	e := &busv1.Event{EventId: uuid.Must(uuid.NewV7()).String(), TenantId: tenant.String(), Stream: busv1.Stream_STREAM_EVENTS,
		Type: "decision_made", Actor: "key:k", Action: "authorize", Resource: "tool:drop_table", Decision: "DENY", OccurredAt: timestamppb.Now()}
	if err := b.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}

	mine := identity.With(t.Context(), reader(tenant))
	proof := eventually(t, func() (*auditv1.GetInclusionProofResponse, error) {
		return client.GetInclusionProof(mine, &auditv1.GetInclusionProofRequest{EventId: e.GetEventId()})
	})
	if proof.GetEntry().GetDecision() != "DENY" || proof.GetEntry().GetResource() != "tool:drop_table" || proof.GetTreeSize() != 1 {
		t.Errorf("entry is %v of a tree of %d", proof.GetEntry(), proof.GetTreeSize())
	}
	for name, call := range map[string]struct {
		who  identity.Principal
		want fault.Kind
	}{
		"another tenant":    {reader(other), fault.NotFound},
		"without the scope": {identity.Principal{Tenant: tenant, KeyID: "k"}, fault.Denied},
	} {
		_, err := client.GetInclusionProof(identity.With(t.Context(), call.who), &auditv1.GetInclusionProofRequest{EventId: e.GetEventId()})
		if !errors.Is(err, call.want) {
			t.Errorf("%s: %v, want %v", name, err, call.want)
		}
	}
	_, err = client.GetInclusionProof(mine, &auditv1.GetInclusionProofRequest{EventId: "x"})
	if !errors.Is(err, fault.Invalid) {
		t.Errorf("bad id: %v", err)
	}
}

// eventually calls until it works: sequencing follows the event within moments.
func eventually[T any](t *testing.T, call func() (T, error)) T {
	t.Helper()
	limit, tick := time.After(20*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		v, err := call()
		if err == nil {
			return v
		}
		last = err
		select {
		case <-limit:
			t.Fatal(last)
		case <-tick.C:
		}
	}
}
