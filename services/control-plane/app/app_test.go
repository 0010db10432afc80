package app_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/app"
)

const (
	pepper = "the pepper of this test"
	token  = "the internal token of this test"
)

// compiler stands for the policy-engine: it refuses Rego that says "broken".
type compiler struct {
	policyenginev1.UnimplementedEvaluationServiceServer
}

func (compiler) Validate(ctx context.Context, req *policyenginev1.ValidateRequest) (*policyenginev1.ValidateResponse, error) {
	if _, err := identity.Tenant(ctx); err != nil {
		return nil, err
	}
	if !strings.Contains(req.GetPolicy().GetRego(), "broken") {
		return &policyenginev1.ValidateResponse{}, nil
	}
	return &policyenginev1.ValidateResponse{Problems: []*policyenginev1.Problem{
		{Field: "rego", Line: 3, Column: 7, Message: "unexpected token", Severity: policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_ERROR},
		{Field: "rego", Line: 9, Column: 1, Message: "unused import", Severity: policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_WARNING},
	}}, nil
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// engineAt serves compiler and returns its address.
func engineAt(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler), InternalToken: secret.New(token)})
	policyenginev1.RegisterEvaluationServiceServer(srv.GRPC(), compiler{})
	run(t, func(ctx context.Context) error { return rpc.Serve(ctx, srv, ln, time.Second) })
	return ln.Addr().String()
}

// run runs f until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("run does not end")
		}
	})
}

// start runs the whole service on a database of its own.
func start(t *testing.T, d *dbtest.Database, engine string) *grpc.ClientConn {
	t.Helper()
	ln := listen(t)
	env := map[string]string{
		"CONTROL_PLANE_ADDR": ln.Addr().String(), "CONTROL_PLANE_OPS_ADDR": "127.0.0.1:0",
		"POSTGRES_CONN_STR": d.AppURL, "NATS_URL": os.Getenv("TEST_NATS_URL"), "POLICY_ENGINE_URL": engine,
		"FULCRUM_KEY_PEPPER": pepper, "FULCRUM_INTERNAL_TOKEN": token,
	}
	run(t, func(ctx context.Context) error {
		return app.Run(ctx, service.Env{
			Getenv: config.Map(env), Log: slog.New(slog.DiscardHandler), Stdout: io.Discard, Version: "test",
			Listen: func(ctx context.Context, addr string) (net.Listener, error) {
				if addr == ln.Addr().String() {
					return ln, nil
				}
				return net.Listen("tcp", addr)
			},
		})
	})
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{InternalToken: secret.New(token), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// From nothing to a policy that the data plane is told to load: what the first
// minute of an installation does.
func TestTheFirstMinute(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	conn := start(t, d, engineAt(t))
	admin := controlplanev1.NewAdminServiceClient(conn)
	asAdmin := identity.With(t.Context(), identity.Principal{Admin: true})

	made, err := admin.CreateTenant(asAdmin, &controlplanev1.CreateTenantRequest{Name: "acme", IdempotencyKey: uuid.NewString()}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	tenant := uuid.MustParse(made.GetTenant().GetTenantId())
	issued, err := admin.IssueApiKey(asAdmin, &controlplanev1.IssueApiKeyRequest{TenantId: tenant.String(), Name: "first", Scopes: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	by := identify(t, d, issued.GetKeySecret())
	if by.Tenant != tenant || !slices.Equal(by.Scopes, []string{"*"}) {
		t.Errorf("the key is of %v with %v", by.Tenant, by.Scopes)
	}

	policies := policyv1.NewPolicyServiceClient(conn)
	asKey := identity.With(t.Context(), by)
	_, err = policies.CreatePolicy(asKey, &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{Name: "typo", Rego: "broken"}})
	f, ok := fault.As(err)
	if !ok || f.Kind != fault.Invalid || len(f.Violations) != 1 ||
		f.Violations[0] != (fault.Violation{Field: "policy.rego", Description: "line 3, column 7: unexpected token"}) {
		t.Errorf("broken Rego: %v", err)
	}
	if _, err := policies.CreatePolicy(asKey, &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{
		Name: "fine", Rego: "package fulcrum", Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
	}}); err != nil {
		t.Fatal(err)
	}
	awaitConfig(t, "policies", tenant, 2)
	awaitConfig(t, "budgets", tenant, 1)
}

// awaitConfig waits until the data plane has been told of a version.
func awaitConfig(t *testing.T, kind string, tenant uuid.UUID, version int64) {
	t.Helper()
	b, err := bus.Connect(config.NATS(config.From(config.Map(map[string]string{"NATS_URL": os.Getenv("TEST_NATS_URL")}))), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, found := context.WithTimeout(t.Context(), 2*time.Minute)
	defer found()
	got := int64(0)
	_ = b.WatchConfig(ctx, kind, func(_ context.Context, e *busv1.Event) error {
		if e.GetTenantId() == tenant.String() && e.GetConfigVersion() >= version {
			got = e.GetConfigVersion()
			found()
		}
		return nil
	})
	if got != version {
		t.Errorf("%s: told of version %d, want %d", kind, got, version)
	}
}

// identify does what the gateway does with a presented key.
func identify(t *testing.T, d *dbtest.Database, presented string) identity.Principal {
	t.Helper()
	key, err := apikey.Parse(presented)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := db.Open(t.Context(), d.AppURL, db.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	var p identity.Principal
	err = opened.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		var hash []byte
		var pepperVersion int
		var tenantStatus string
		var revokedAt *time.Time
		err := tx.QueryRow(ctx, `select tenant_id, key_id, scopes, hash, pepper_version, tenant_status, revoked_at from fulcrum.find_api_key($1)`, key.ID).
			Scan(&p.Tenant, &p.KeyID, &p.Scopes, &hash, &pepperVersion, &tenantStatus, &revokedAt)
		if !key.Matches(hash, secret.New(pepper)) || pepperVersion != 1 || tenantStatus != "active" || revokedAt != nil {
			t.Errorf("the key is not good: pepper %d, tenant %s, revoked %v", pepperVersion, tenantStatus, revokedAt)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Without the policy-engine nothing can be judged, so nothing is stored; what
// needs no compiler goes on.
func TestPoliciesWaitForTheEngine(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	away := listen(t)
	away.Close()
	conn := start(t, d, away.Addr().String())
	ctx := identity.With(t.Context(), identity.Principal{Tenant: tenant, UserID: "ada", Scopes: []string{"*"}})
	_, err := policyv1.NewPolicyServiceClient(conn).CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{Name: "x", Rego: "package x"}}, grpc.WaitForReady(true))
	f, ok := fault.As(err)
	if !ok || f.Kind != fault.Down || f.Reason != "POLICY_ENGINE_UNAVAILABLE" || f.RetryAfter == 0 {
		t.Errorf("create: %v", err)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.policies`); n != 0 {
		t.Errorf("%d policies stored", n)
	}
	if _, err := policyv1.NewPolicyServiceClient(conn).ListPolicies(ctx, &policyv1.ListPoliciesRequest{}); err != nil {
		t.Errorf("list: %v", err)
	}
}

// The service believes a principal only beside the internal token.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	conn := start(t, d, "127.0.0.1:1")
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	stranger, err := grpc.NewClient(conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	_, err = policyv1.NewPolicyServiceClient(stranger).ListPolicies(t.Context(), &policyv1.ListPoliciesRequest{})
	if got := status.Code(err); got != codes.Unauthenticated {
		t.Errorf("without token: %v (%v)", got, err)
	}
}

func TestSettingsAreRefusedTogether(t *testing.T) {
	t.Parallel()
	err := app.Run(t.Context(), service.Env{Getenv: config.Map(map[string]string{
		"CONTROL_PLANE_ADDR": "nowhere", "POLICY_ENGINE_URL": "x", "FULCRUM_KEY_PEPPER_VERSION": "0",
	}), Log: slog.New(slog.DiscardHandler), Stdout: io.Discard})
	for _, key := range []string{"CONTROL_PLANE_ADDR", "POLICY_ENGINE_URL", "FULCRUM_KEY_PEPPER:", "FULCRUM_KEY_PEPPER_VERSION"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}
