package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/access"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/agent"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/api"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/exchange"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/keys"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/price"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tenant"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tool"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/wallet"
)

var pepper = secret.New("a pepper for tests")

// bench is the control plane on a database of its own, spoken to over gRPC.
type bench struct {
	*dbtest.Database
	t         testing.TB
	conn      *grpc.ClientConn
	engine    *engine
	log       *logBuffer
	server    *rpc.Server
	policy    policyv1.PolicyServiceClient
	lifecycle lifecyclev1.PolicyLifecycleServiceClient
	cost      costv1.CostServiceClient
	keys      tenantv1.TenantServiceClient
	agents    agentv1.AgentServiceClient
	prices    pricingv1.PriceServiceClient
	admin     controlplanev1.AdminServiceClient
	wallets   walletv1.WalletServiceClient
	tools     controlplanev1.ToolServiceClient
	nudges    chan struct{} // one for each commit that left events
	tenantA   uuid.UUID
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, Database: dbtest.New(t), engine: &engine{}, log: &logBuffer{}, nudges: make(chan struct{}, 1000)}
	b.tenantA = dbtest.Tenant(t, b.Database)
	store := postgres.New(b.DB, func() { b.nudges <- struct{}{} })
	rules := policy.New(store, b.engine)
	private, public, err := note.GenerateKey(rand.Reader, "test/policies")
	if err != nil {
		t.Fatal(err)
	}
	exchanged, err := exchange.New(rules, private, []string{public})
	if err != nil {
		t.Fatal(err)
	}
	b.server = rpc.NewServer(rpc.ServerOptions{
		Log:   slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Unary: []grpc.UnaryServerInterceptor{access.Unary}, Stream: []grpc.StreamServerInterceptor{access.Stream},
	})
	api.Register(b.server.GRPC(), api.Services{
		Policies: rules, Exchange: exchanged, Budgets: budget.New(store), Prices: price.New(store), Keys: keys.New(store, pepper, 1),
		Agents: agent.New(store), Tenants: tenant.New(store), Wallets: wallet.New(store),
		Tools: tool.New(store, b.engine),
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, b.server, ln, time.Second) }()
	b.conn, err = rpc.Dial(ln.Addr().String(), rpc.DialOptions{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("server log:\n%s", b.log)
		}
		b.conn.Close()
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	b.lifecycle = lifecyclev1.NewPolicyLifecycleServiceClient(b.conn)
	b.policy, b.cost = policyv1.NewPolicyServiceClient(b.conn), costv1.NewCostServiceClient(b.conn)
	b.keys, b.agents = tenantv1.NewTenantServiceClient(b.conn), agentv1.NewAgentServiceClient(b.conn)
	b.prices = pricingv1.NewPriceServiceClient(b.conn)
	b.admin, b.wallets = controlplanev1.NewAdminServiceClient(b.conn), walletv1.NewWalletServiceClient(b.conn)
	b.admin, b.tools = controlplanev1.NewAdminServiceClient(b.conn), controlplanev1.NewToolServiceClient(b.conn)
	return b
}

// as is a call by somebody of a tenant with the given scopes.
func as(ctx context.Context, tenant uuid.UUID, scopes ...string) context.Context {
	return identity.With(ctx, identity.Principal{Tenant: tenant, UserID: "ada", Scopes: scopes})
}

// all is a call by somebody of the bench's tenant who may do everything.
func (b *bench) all() context.Context { return as(b.t.Context(), b.tenantA, "*") }

func (b *bench) asAdmin() context.Context {
	return identity.With(b.t.Context(), identity.Principal{Admin: true})
}

func withKey(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
}

// query reads past row level security.
func (b *bench) query(sql string, args []any, scan ...any) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.AdminURL)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.t.Context()))
	if err := conn.QueryRow(b.t.Context(), sql, args...).Scan(scan...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

func (b *bench) policyBundle(tenant uuid.UUID) *configv1.PolicyBundle {
	b.t.Helper()
	m := &configv1.PolicyBundle{}
	b.bundle(tenant, "policies", m)
	return m
}

func (b *bench) budgetBundle(tenant uuid.UUID) *configv1.BudgetBundle {
	b.t.Helper()
	m := &configv1.BudgetBundle{}
	b.bundle(tenant, "budgets", m)
	return m
}

// bundle reads a bundle and checks that it says the version it is stored under.
func (b *bench) bundle(tenant uuid.UUID, kind string, into proto.Message) {
	b.t.Helper()
	var version int64
	var content []byte
	b.query(`select version, content from fulcrum.config_bundles where tenant_id = $1 and kind = $2`, []any{tenant, kind}, &version, &content)
	if err := proto.Unmarshal(content, into); err != nil {
		b.t.Fatal(err)
	}
	if got := into.(interface{ GetVersion() int64 }).GetVersion(); got != version {
		b.t.Errorf("bundle %s says version %d, stored as %d", kind, got, version)
	}
}

// events is everything in the outbox of a tenant, in the order of writing.
func (b *bench) events(tenant uuid.UUID) []*busv1.Event {
	b.t.Helper()
	var raw [][]byte
	b.query(`select coalesce(array_agg(event order by seq), '{}') from fulcrum.outbox where tenant_id = $1`, []any{tenant}, &raw)
	var out []*busv1.Event
	for _, r := range raw {
		e := &busv1.Event{}
		if err := proto.Unmarshal(r, e); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// draft is a policy that passes every check.
func draft(name string) *policyv1.Policy {
	return &policyv1.Policy{
		Name: name,
		Rules: []*policyv1.PolicyRule{{
			Name: "no shell", Enabled: true,
			Conditions: []*policyv1.PolicyCondition{{
				ConditionType: policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH, Field: "tool.name",
				Operator: policyv1.ConditionOperator_CONDITION_OPERATOR_EQUALS,
				Value:    &policyv1.PolicyCondition_StringValue{StringValue: "shell"},
			}},
			Actions:  []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY, Message: "no shell here"}},
			RuleType: policyv1.RuleType_RULE_TYPE_TOOL_ALLOWLIST,
		}},
	}
}

func active(name string) *policyv1.Policy {
	p := draft(name)
	p.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
	return p
}

// daily is a budget that passes every check.
func daily(name string, usd float64) *costv1.Budget {
	return &costv1.Budget{
		Name: name, Limits: &costv1.BudgetLimits{MaxCostUsd: usd},
		Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY},
	}
}

func (b *bench) createPolicy(ctx context.Context, p *policyv1.Policy) *policyv1.Policy {
	b.t.Helper()
	resp, err := b.policy.CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: p})
	if err != nil {
		b.t.Fatalf("CreatePolicy: %v", err)
	}
	return resp.GetPolicy()
}

func (b *bench) createBudget(ctx context.Context, m *costv1.Budget) *costv1.Budget {
	b.t.Helper()
	resp, err := b.cost.CreateBudget(ctx, &costv1.CreateBudgetRequest{Budget: m})
	if err != nil {
		b.t.Fatalf("CreateBudget: %v", err)
	}
	return resp.GetBudget()
}

func (b *bench) createKey(ctx context.Context, scopes ...string) *tenantv1.CreateApiKeyResponse {
	b.t.Helper()
	resp, err := b.keys.CreateApiKey(ctx, &tenantv1.CreateApiKeyRequest{Name: "ci", Scopes: scopes})
	if err != nil {
		b.t.Fatalf("CreateApiKey: %v", err)
	}
	return resp
}

func (b *bench) createAgent(ctx context.Context, name string) *agentv1.Agent {
	b.t.Helper()
	resp, err := b.agents.CreateAgent(ctx, &agentv1.CreateAgentRequest{Name: name})
	if err != nil {
		b.t.Fatalf("CreateAgent: %v", err)
	}
	return resp.GetAgent()
}

// engine is a policy.Engine that believes everything, unless told otherwise.
type engine struct {
	mu     sync.Mutex
	err    error
	before func() // runs in each Check
	asked  int
}

func (e *engine) Check(context.Context, *policyv1.Policy) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	if e.before != nil {
		e.before()
	}
	return e.err
}

// Test fails the tests whose names begin with "fails", and covers half.
func (e *engine) Test(_ context.Context, p *policyv1.Policy) (*lifecyclev1.TestPolicyResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	report := &lifecyclev1.TestPolicyResponse{Passed: true, Coverage: &lifecyclev1.Coverage{Percent: 50}}
	for _, t := range p.GetTests() {
		r := &lifecyclev1.TestResult{Name: t.GetName(), Passed: !strings.HasPrefix(t.GetName(), "fails")}
		if !r.GetPassed() {
			r.Failures, report.Passed = []string{"the decision is ALLOW, wanted DENY"}, false
		}
		report.Results = append(report.Results, r)
	}
	return report, e.err
}

func (e *engine) Lint(_ context.Context, p *policyv1.Policy) (*lifecyclev1.LintPolicyResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &lifecyclev1.LintPolicyResponse{FormattedRego: p.GetRego()}, e.err
}
func (e *engine) CheckTool(ctx context.Context, _ string) error { return e.Check(ctx, nil) }

func (e *engine) refuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *engine) questions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

// logBuffer is everything the server has logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func wantKind(t testing.TB, what string, err error, kind fault.Kind, reason string) {
	t.Helper()
	f, ok := fault.As(err)
	if !ok || f.Kind != kind || reason != "" && f.Reason != reason {
		t.Errorf("%s: %v, want %v %s", what, describe(err), kind, reason)
	}
}

func describe(err error) string {
	if f, ok := fault.As(err); ok {
		return fmt.Sprintf("%s %s %q %v", f.Kind, f.Reason, f.Msg, f.Violations)
	}
	return fmt.Sprint(err)
}

// fields are the fields that an Invalid fault names.
func fields(err error) (names []string) {
	var f *fault.Error
	if errors.As(err, &f) {
		for _, v := range f.Violations {
			names = append(names, v.Field)
		}
	}
	return names
}
