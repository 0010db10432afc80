package app_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/app"
)

// engine is a whole service running in this process.
type engine struct {
	policyenginev1.EvaluationServiceClient
	ops string
}

// start runs the service with the given settings until the test ends.
func start(t *testing.T, vars map[string]string) engine {
	t.Helper()
	listeners := map[string]net.Listener{}
	for _, name := range []string{"grpc", "ops"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[ln.Addr().String()] = ln
		vars[map[string]string{"grpc": "POLICY_ENGINE_ADDR", "ops": "POLICY_ENGINE_OPS_ADDR"}[name]] = ln.Addr().String()
	}
	vars["FULCRUM_BUNDLE_KEY"] = "the key of this test's bundles"
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	stopped := make(chan error, 1)
	go func() {
		stopped <- app.Run(ctx, service.Env{
			Getenv: config.Map(vars), Log: slog.New(slog.DiscardHandler),
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return listeners[addr], nil },
		})
	}()
	conn, err := rpc.Dial(vars["POLICY_ENGINE_ADDR"], rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return engine{policyenginev1.NewEvaluationServiceClient(conn), vars["POLICY_ENGINE_OPS_ADDR"]}
}

func server(t *testing.T, name string) string {
	t.Helper()
	url := os.Getenv(name)
	if url == "" && testing.Short() {
		t.Skip("needs " + name)
	}
	if url == "" {
		t.Fatal(name + " is not set: run `make test`, or `go test -short`")
	}
	return url
}

func settings(t *testing.T, d *dbtest.Database) map[string]string {
	t.Helper()
	return map[string]string{
		"POSTGRES_CONN_STR": d.AppURL, "REDIS_URL": server(t, "TEST_REDIS_URL"), "NATS_URL": server(t, "TEST_NATS_URL"),
	}
}

func as(t *testing.T, tenant uuid.UUID) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(identity.With(t.Context(), identity.System(tenant)), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// publish writes the next version of a tenant's policies, as the control plane does.
func publish(t *testing.T, d *dbtest.Database, tenant uuid.UUID, version int64, policies ...*policyv1.Policy) {
	t.Helper()
	content, err := proto.Marshal(&configv1.PolicyBundle{TenantId: tenant.String(), Version: version, Policies: policies})
	if err != nil {
		t.Fatal(err)
	}
	err = d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `insert into fulcrum.config_bundles (tenant_id, kind, version, content) values ($1, 'policies', $2, $3)
			on conflict (tenant_id, kind) do update set version = excluded.version, content = excluded.content`, tenant, version, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func announce(t *testing.T, tenant uuid.UUID, version int64) {
	t.Helper()
	b, err := bus.Connect(config.NATSSettings{URL: server(t, "TEST_NATS_URL")}, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = b.Publish(t.Context(), &busv1.Event{
		EventId: uuid.NewString(), TenantId: tenant.String(), Stream: busv1.Stream_STREAM_CONFIG, Type: "policies", ConfigVersion: version,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func denies(id string, version int64, action policyv1.ActionType, tool string) *policyv1.Policy {
	return &policyv1.Policy{
		PolicyId: id, Name: id, Version: version, Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
		Rules: []*policyv1.PolicyRule{{
			RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: action, Message: "because"}},
			Conditions: []*policyv1.PolicyCondition{{Field: "tool.name", Value: &policyv1.PolicyCondition_StringValue{StringValue: tool}}},
		}},
	}
}

func ask(tool string) *policyenginev1.EvaluateRequest {
	return &policyenginev1.EvaluateRequest{Facts: &policyenginev1.Facts{
		Action:       &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: tool},
		TimeUnixNano: time.Now().UnixNano(),
	}}
}

func TestTheServiceJudgesReloadsAndSurvivesItsStores(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	publish(t, d, tenant, 1, denies("p", 1, policyv1.ActionType_ACTION_TYPE_DENY, "shell"))
	e := start(t, settings(t, d))
	ctx := as(t, tenant)

	got, err := e.Evaluate(ctx, ask("shell"))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetDecision() != governancev1.Decision_DECISION_DENY || got.GetPolicySetVersion() != 1 || got.GetDegraded() ||
		len(got.GetReasons()) != 1 || got.GetReasons()[0].GetMessage() != "because" {
		t.Errorf("answer: %v", got)
	}
	if got, err = e.Evaluate(as(t, other), ask("shell")); err != nil || got.GetDecision() != governancev1.Decision_DECISION_ALLOW || !got.GetDefaulted() {
		t.Errorf("another tenant's answer: %v, %v", got, err)
	}
	if _, err := e.Evaluate(t.Context(), ask("shell")); !fault.Is(rpc.FromStatus(err), fault.Unauthenticated) {
		t.Errorf("without a caller: %v", err)
	}
	req := ask("shell")
	req.PolicyIds = []string{"nobody"}
	if _, err := e.Evaluate(ctx, req); !fault.Is(rpc.FromStatus(err), fault.NotFound) {
		t.Errorf("an unknown policy: %v", err)
	}

	// A published change arrives by itself.
	publish(t, d, tenant, 2, denies("p", 2, policyv1.ActionType_ACTION_TYPE_WARN, "shell"))
	announce(t, tenant, 2)
	for got.GetPolicySetVersion() != 2 {
		if got, err = e.Evaluate(ctx, ask("shell")); err != nil {
			t.Fatal(err)
		}
	}
	if got.GetDecision() != governancev1.Decision_DECISION_WARN {
		t.Errorf("version 2 answers %v", got)
	}

	// A caller who knows of a change need not wait for the news.
	publish(t, d, tenant, 3, denies("p", 3, policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL, "shell"))
	req = ask("shell")
	req.AtLeastVersion = 3
	if got, err = e.Evaluate(ctx, req); err != nil || got.GetPolicySetVersion() != 3 || got.GetDecision() != governancev1.Decision_DECISION_REQUIRE_APPROVAL {
		t.Errorf("at least version 3: %v, %v", got, err)
	}
	req.AtLeastVersion = 4
	if _, err = e.Evaluate(ctx, req); !fault.Is(rpc.FromStatus(err), fault.Down) {
		t.Errorf("at least version 4: %v", err)
	}

	// The last good version is in Redis: another instance starts without Postgres.
	away := settings(t, d)
	away["POSTGRES_CONN_STR"] = "postgres://fulcrum:fulcrum@127.0.0.1:1/fulcrum?sslmode=disable"
	second := start(t, away)
	for range 100 {
		if got, err = second.Evaluate(ctx, ask("shell")); err == nil {
			break
		}
		if !fault.Is(rpc.FromStatus(err), fault.Down) {
			t.Fatal(err)
		}
	}
	if err != nil || !got.GetDegraded() || got.GetPolicySetVersion() != 3 || got.GetDecision() != governancev1.Decision_DECISION_REQUIRE_APPROVAL {
		t.Errorf("without Postgres: %v, %v", got, err)
	}
	if _, err = second.Evaluate(as(t, uuid.New()), ask("shell")); !fault.Is(rpc.FromStatus(err), fault.Down) {
		t.Errorf("a tenant nobody has, without Postgres: %v", err)
	}

	metrics := get(t, "http://"+e.ops+"/metrics")
	for _, want := range []string{`fulcrum_policy_evaluations_total{decision="DENY"} `, `fulcrum_policy_latency_seconds_bucket{`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics:\n%s", want, metrics)
		}
	}
	if ready := get(t, "http://"+second.ops+"/readyz"); !strings.Contains(ready, `"ok"`) {
		t.Errorf("not ready without Postgres: %s", ready)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestTheServiceTellsAuthorsWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	e := start(t, settings(t, d))
	ctx := as(t, dbtest.Tenant(t, d))
	got, err := e.Validate(ctx, &policyenginev1.ValidateRequest{Policy: &policyv1.Policy{
		Name: "x", Rego: "package fulcrum.policy\n\ndeny contains \"x\" if http.send({})",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if ps := got.GetProblems(); len(ps) != 1 || ps[0].GetField() != "rego" || ps[0].GetLine() != 3 || ps[0].GetColumn() == 0 ||
		ps[0].GetSeverity() != policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_ERROR {
		t.Errorf("problems: %v", ps)
	}
	got, err = e.Validate(ctx, &policyenginev1.ValidateRequest{Policy: denies("p", 1, policyv1.ActionType_ACTION_TYPE_DENY, "shell")})
	if err != nil || len(got.GetProblems()) != 0 {
		t.Errorf("a good policy: %v, %v", got, err)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	err := app.Run(t.Context(), service.Env{
		Getenv: config.Map(map[string]string{"POLICY_ENGINE_ADDR": ":50052", "POLICY_ENGINE_TENANTS": "1"}),
		Log:    slog.New(slog.DiscardHandler),
	})
	for _, want := range []string{"FULCRUM_BUNDLE_KEY", "POLICY_ENGINE_TENANTS"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
}
