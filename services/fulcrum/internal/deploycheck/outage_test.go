package deploycheck

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
)

// member is one of our programs in a process of its own.
type member struct {
	cmd  *exec.Cmd
	addr string
	log  bytes.Buffer
	once sync.Once
}

// kill ends it as the kernel's out-of-memory killer would.
func (m *member) kill() {
	m.once.Do(func() {
		_ = m.cmd.Process.Kill() // fails only if it has just ended
		_ = m.cmd.Wait()
	})
}

// launch starts a program of ours on the stores, and returns its connection.
func launch(t *testing.T, name, prefix string, env ...string) (*member, *grpc.ClientConn) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{cmd: exec.Command(self), addr: freeAddr(t)}
	m.cmd.Env = append(env, program+"="+name, prefix+"_ADDR="+m.addr, prefix+"_OPS_ADDR="+freeAddr(t))
	m.cmd.Stdout, m.cmd.Stderr = io.Discard, &m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.kill(); t.Failed() {
			t.Logf("%s said:\n%s", name, &m.log)
		}
	})
	conn, err := rpc.Dial(m.addr, rpc.DialOptions{Extra: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.WaitForReady(true))}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return m, conn
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// stores are servers of this test's own, with a schema and a tenant.
func stores(t *testing.T) (s *devstack.Stack, env []string, tenant uuid.UUID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s, err := devstack.Start(ctx, devstack.Options{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	const password = "of-this-test-only"
	if err := db.Bootstrap(ctx, s.PostgresURL, db.BootstrapOptions{Database: "fulcrum", AppPassword: password, MigratePassword: password}); err != nil {
		t.Fatal(err)
	}
	as := func(role string) string {
		u, err := url.Parse(s.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.UserPassword(role, password), "/fulcrum"
		return u.String()
	}
	if err := db.Migrate(ctx, as("fulcrum_migrate")); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, as("fulcrum_app"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	tenant = uuid.Must(uuid.NewV7())
	if _, err := conn.Exec(ctx, `select fulcrum.create_tenant($1, 'acme', '{}', null)`, tenant); err != nil {
		t.Fatal(err)
	}
	return s, []string{
		"POSTGRES_CONN_STR=" + as("fulcrum_app"), "REDIS_URL=" + s.RedisURL, "NATS_URL=" + s.NATSURL,
		"FULCRUM_BUNDLE_KEY=the key of this test's bundles", "FULCRUM_KEY_PEPPER=0123456789abcdef0123456789abcdef",
	}, tenant
}

// An engine, a control plane and their stores, each a server of its own. The
// control plane moves a policy forth and back under load; then it is killed, and
// so is every store in turn, and what is gone stays gone. Every decision names
// one version and agrees with it, and none fails.
func TestDecisionsGoOnWithoutTheControlPlaneAndItsStores(t *testing.T) {
	t.Parallel()
	s, env, tenant := stores(t)
	_, engineConn := launch(t, "policy-engine", "POLICY_ENGINE", env...)
	plane, planeConn := launch(t, "control-plane", "CONTROL_PLANE", append(env, "POLICY_ENGINE_URL="+engineConn.Target())...)
	ctx, cancel := context.WithTimeout(identity.With(t.Context(), identity.Principal{Tenant: tenant, UserID: "ada", Scopes: []string{"*"}}), 5*time.Minute)
	defer cancel()
	flip := policyOfTwoVersions(ctx, t, planeConn)
	flip(1)

	var decided atomic.Int64
	ask := func() error {
		got, err := policyenginev1.NewEvaluationServiceClient(engineConn).Evaluate(ctx, &policyenginev1.EvaluateRequest{
			Facts: &policyenginev1.Facts{Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "search"}},
		})
		if err != nil || stoodStill(got) {
			return err
		}
		decided.Add(1)
		return agrees(got)
	}
	if err := ask(); err != nil { // loads the tenant
		t.Fatal(err)
	}
	over, stop := context.WithCancel(ctx)
	g, over := errgroup.WithContext(over)
	for range 4 {
		g.Go(func() error {
			for over.Err() == nil {
				if err := ask(); err != nil {
					return fmt.Errorf("after %d decisions: %w", decided.Load(), err)
				}
			}
			return nil
		})
	}
	further := func(n int64) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for until := decided.Load() + n; decided.Load() < until; {
			select {
			case <-over.Done():
				t.Fatalf("decisions ended: %v", g.Wait())
			case <-tick.C:
			}
		}
	}
	for i := range 20 {
		flip(int64(1 + i%2))
		further(20)
	}
	for _, loss := range []struct {
		of   string
		take func() error
	}{
		{"the control plane", func() error { plane.kill(); return nil }},
		{"NATS", s.NATS.Stop},
		{"Redis", s.Redis.Kill},
		{"PostgreSQL", s.Postgres.Kill},
	} {
		if err := loss.take(); err != nil {
			t.Fatal(err)
		}
		further(500)
		t.Logf("without %s as well: %d decisions so far", loss.of, decided.Load())
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// policyOfTwoVersions makes a policy whose first version warns and whose second
// denies, and returns what activates one of them.
func policyOfTwoVersions(ctx context.Context, t *testing.T, plane *grpc.ClientConn) (activate func(version int64)) {
	t.Helper()
	made, err := policyv1.NewPolicyServiceClient(plane).CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{
		Name: "flips", Rego: "package fulcrum.policy\n\nwarn contains \"first\"\n",
	}})
	if err != nil {
		t.Fatal(err)
	}
	lifecycle, id := lifecyclev1.NewPolicyLifecycleServiceClient(plane), made.GetPolicy().GetPolicyId()
	if _, err := lifecycle.CreatePolicyVersion(ctx, &lifecyclev1.CreatePolicyVersionRequest{
		Policy: &policyv1.Policy{PolicyId: id, Rego: "package fulcrum.policy\n\ndeny contains \"second\"\n"},
	}); err != nil {
		t.Fatal(err)
	}
	return func(version int64) {
		t.Helper()
		if _, err := lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{PolicyId: id, Version: version}); err != nil {
			t.Fatal(err)
		}
	}
}

// stoodStill is whether the machine did for so long that the evaluation of a
// policy of one line was given up. Its failure mode is then the right answer.
func stoodStill(got *policyenginev1.EvaluateResponse) bool {
	return len(got.GetResults()) == 1 && strings.Contains(got.GetResults()[0].GetError(), "took too long")
}

// agrees is nil if an answer is by one version in all its parts.
func agrees(got *policyenginev1.EvaluateResponse) error {
	if len(got.GetReasons()) == 1 && len(got.GetResults()) == 1 {
		reason, version := got.GetReasons()[0], got.GetResults()[0].GetVersion()
		by := map[int64]governancev1.Decision{1: governancev1.Decision_DECISION_WARN, 2: governancev1.Decision_DECISION_DENY}
		text := map[int64]string{1: "first", 2: "second"}
		if got.GetDecision() == by[version] && reason.GetVersion() == version && reason.GetMessage() == text[version] {
			return nil
		}
	}
	return fmt.Errorf("policy set %d decided %s by %v", got.GetPolicySetVersion(), got.GetDecision(), got.GetResults())
}
