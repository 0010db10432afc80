package app_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/app"
)

const (
	token    = "test-internal-token"
	pepper   = "test-pepper"
	adminKey = "test-admin-key-0123456789-0123456789"
)

// world is a gateway on a database of its own, with stand-ins for its peers.
type world struct {
	t      *testing.T
	db     *dbtest.Database
	tenant uuid.UUID
	engine *engine
	ledger *ledger
	peers  string // address of the stand-ins
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, db: dbtest.New(t), engine: &engine{}, ledger: &ledger{holds: make(map[string]string)}}
	w.tenant = dbtest.Tenant(t, w.db)
	w.peers = w.serve()
	return w
}

// serve runs the stand-ins and returns their address.
func (w *world) serve() string {
	w.t.Helper()
	ln := listen(w.t)
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler), InternalToken: secret.New(token)})
	policyenginev1.RegisterEvaluationServiceServer(srv.GRPC(), w.engine)
	budgetv1.RegisterLedgerServiceServer(srv.GRPC(), w.ledger)
	costv1.RegisterCostServiceServer(srv.GRPC(), costs{})
	brainv1.RegisterOracleServiceServer(srv.GRPC(), oracles{})
	controlplanev1.RegisterAdminServiceServer(srv.GRPC(), admins{})
	controlplanev1.RegisterToolServiceServer(srv.GRPC(), controlplanev1.UnimplementedToolServiceServer{})
	controlplanev1.RegisterWebhookServiceServer(srv.GRPC(), controlplanev1.UnimplementedWebhookServiceServer{})
	policyv1.RegisterPolicyServiceServer(srv.GRPC(), policies{})
	eventstorev1.RegisterEventStoreServiceServer(srv.GRPC(), events{})
	brainv1.RegisterImmuneSystemServiceServer(srv.GRPC(), immune{})
	brainv1.RegisterSemanticJudgeServiceServer(srv.GRPC(), brainv1.UnimplementedSemanticJudgeServiceServer{})
	auditv1.RegisterAuditServiceServer(srv.GRPC(), auditv1.UnimplementedAuditServiceServer{})
	background(w.t, func(ctx context.Context) error { return rpc.Serve(ctx, srv, ln, time.Second) })
	return ln.Addr().String()
}

// gateway is one running instance.
type gateway struct {
	conn *grpc.ClientConn
	http string // base URL
	stop func()
}

func (w *world) gateway(overrides ...string) *gateway {
	w.t.Helper()
	g, h, ops := listen(w.t), listen(w.t), listen(w.t)
	vars := map[string]string{
		"GATEWAY_GRPC_ADDR": g.Addr().String(), "GATEWAY_HTTP_ADDR": h.Addr().String(), "GATEWAY_OPS_ADDR": ops.Addr().String(),
		"POSTGRES_CONN_STR": w.db.AppURL, "NATS_URL": os.Getenv("TEST_NATS_URL"), "REDIS_URL": os.Getenv("TEST_REDIS_URL"),
		"FULCRUM_INTERNAL_TOKEN": token, "FULCRUM_KEY_PEPPER": pepper, "FULCRUM_ADMIN_KEY": adminKey,
		"POLICY_ENGINE_URL": w.peers, "BUDGET_URL": w.peers, "CONTROL_PLANE_URL": w.peers, "EVENT_PROCESSOR_URL": w.peers, "AUDIT_URL": w.peers,
		"GATEWAY_SWEEP_EVERY": "50ms", "FULCRUM_DRAIN": "1s", "GATEWAY_DB_CONNS": "8",
	}
	for i := 0; i+1 < len(overrides); i += 2 {
		vars[overrides[i]] = overrides[i+1]
	}
	byAddr := map[string]net.Listener{g.Addr().String(): g, h.Addr().String(): h, ops.Addr().String(): ops}
	stop := background(w.t, func(ctx context.Context) error {
		return app.Run(ctx, service.Env{
			Getenv: config.Map(vars), Log: testLog(w.t), Stdout: io.Discard, Version: "test",
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return byAddr[addr], nil },
		})
	})
	conn, err := rpc.Dial(g.Addr().String(), rpc.DialOptions{Public: true, Timeout: 20 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return &gateway{conn: conn, http: "http://" + h.Addr().String(), stop: stop}
}

// key issues an API key in a tenant and returns it.
func (w *world) key(tenant uuid.UUID, scopes ...string) string {
	return w.keyAs(identity.Principal{Tenant: tenant, Scopes: scopes})
}

func (w *world) keyAs(p identity.Principal) string {
	w.t.Helper()
	k := apikey.Generate()
	err := w.db.DB.WithTenant(w.t.Context(), p.Tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `insert into fulcrum.api_keys (tenant_id, key_id, name, hash, pepper_version, scopes, roles, agent_id, team, user_id, last4, created_by)
			values ($1, $2, 'test', $3, 1, $4, $5, $6, $7, $8, $9, 'test')`,
			p.Tenant, k.ID, k.Hash(secret.New(pepper)), p.Scopes, append([]string{}, p.Roles...), p.AgentID, p.Team, p.UserID, k.LastFour())
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return k.Reveal()
}

// as is a context of a caller who shows a key.
func as(t *testing.T, key string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// background runs f until the test ends or the returned function is called.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	once := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("run does not end")
		}
	})
	t.Cleanup(once)
	return once
}

// testLog shows warnings and errors with the test.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

// engine is a policy engine that allows, unless it is told what to say.
type engine struct {
	policyenginev1.UnimplementedEvaluationServiceServer
	mu    sync.Mutex // guards the rest
	say   func(*policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error)
	asked []*policyenginev1.EvaluateRequest
}

func (e *engine) says(f func(*policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.say = f
}

// decides makes the engine give one answer to everything.
func (e *engine) decides(d governancev1.Decision, change ...func(*policyenginev1.EvaluateResponse)) {
	e.says(func(*policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		resp := judgement(d)
		for _, f := range change {
			f(resp)
		}
		return resp, nil
	})
}

func judgement(d governancev1.Decision) *policyenginev1.EvaluateResponse {
	resp := &policyenginev1.EvaluateResponse{Decision: d, PolicySetVersion: 7, EvaluatedUs: 42}
	if d != governancev1.Decision_DECISION_ALLOW {
		resp.Reasons = []*governancev1.Reason{{
			PolicyId: "0199c0de-0000-7000-8000-000000000001", PolicyName: "a policy", Version: 3, RuleId: "r1", RuleName: "a rule",
			Message: "because of a rule", Decision: d,
		}}
	}
	resp.Results = []*policyenginev1.PolicyResult{{
		PolicyId: "0199c0de-0000-7000-8000-000000000001", Version: 3, Outcome: policyenginev1.PolicyOutcome_POLICY_OUTCOME_EVALUATED, Decision: d,
	}}
	return resp
}

func (e *engine) Evaluate(ctx context.Context, req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	if _, err := identity.Tenant(ctx); err != nil {
		return nil, err
	}
	e.mu.Lock()
	say := e.say
	e.asked = append(e.asked, req)
	e.mu.Unlock()
	if say == nil {
		return judgement(governancev1.Decision_DECISION_ALLOW), nil
	}
	return say(req)
}

// ledger is a ledger that grants everything once, unless it is told to fail.
type ledger struct {
	budgetv1.UnimplementedLedgerServiceServer
	mu      sync.Mutex        // guards the rest
	holds   map[string]string // reservation to HELD, SETTLED or RELEASED
	reserve func(*budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error)

	standings func(context.Context, *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error)

	noSlices bool
	stuck    bool // gives nothing back, as if it were away
}

var errAway = fault.New(fault.Down, "the ledger is away").WithReason("LEDGER_UNAVAILABLE")

func (l *ledger) reserves(f func(*budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserve = f
}

// count is how many reservations are in a state.
func (l *ledger) count(state string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.holds {
		if s == state {
			n++
		}
	}
	return n
}

func (l *ledger) Reserve(ctx context.Context, req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
	if _, err := identity.Tenant(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reserve != nil {
		return l.reserve(req)
	}
	if state := l.holds[req.GetReservationId()]; state != "" && state != "HELD" {
		return nil, fault.New(fault.Precondition, "the hold has ended: it is %s", state).WithReason("RESERVATION_" + state)
	}
	if !req.GetDryRun() {
		l.holds[req.GetReservationId()] = "HELD"
	}
	return &budgetv1.ReserveResponse{Granted: true, PriceVersion: "test-1", Hold: &governancev1.Hold{
		ReservationId: req.GetReservationId(), Amounts: req.GetAmounts(), ExpiresAt: timestamppb.New(time.Now().Add(req.GetTtl().AsDuration())),
	}}, nil
}

func (l *ledger) Settle(_ context.Context, req *budgetv1.SettleRequest) (*budgetv1.SettleResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds[req.GetReservationId()] = "SETTLED"
	return &budgetv1.SettleResponse{Charged: &governancev1.Amounts{CostNano: 5, InputTokens: req.GetUsage().GetInputTokens()}, PriceVersion: "test-1"}, nil
}

func (l *ledger) Release(_ context.Context, req *budgetv1.ReleaseRequest) (*budgetv1.ReleaseResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stuck {
		return nil, errAway
	}
	switch l.holds[req.GetReservationId()] {
	case "":
		return nil, fault.New(fault.NotFound, "no such reservation")
	case "SETTLED":
		return nil, fault.New(fault.Precondition, "settled")
	}
	l.holds[req.GetReservationId()] = "RELEASED"
	return &budgetv1.ReleaseResponse{Released: &governancev1.Amounts{CostNano: 9}}, nil
}

func (l *ledger) Renew(_ context.Context, req *budgetv1.RenewRequest) (*budgetv1.RenewResponse, error) {
	return &budgetv1.RenewResponse{ExpiresAt: timestamppb.New(time.Now().Add(req.GetTtl().AsDuration()))}, nil
}

func (l *ledger) GetStandings(ctx context.Context, req *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
	if _, err := identity.Tenant(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	tell := l.standings
	l.mu.Unlock()
	if tell == nil {
		return nil, errAway
	}
	return tell(ctx, req)
}

func (l *ledger) TakeSlice(ctx context.Context, req *budgetv1.TakeSliceRequest) (*budgetv1.TakeSliceResponse, error) {
	if _, err := identity.Tenant(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := "slice " + req.GetEnvelopeLimits()[0].GetEnvelopeId()
	if l.noSlices {
		return &budgetv1.TakeSliceResponse{Reason: "BUDGET_EXCEEDED", Message: "too little left", RefusedBy: &governancev1.BudgetState{Name: "the parent"}}, nil
	}
	l.holds[id] = "HELD"
	return &budgetv1.TakeSliceResponse{Granted: true}, nil
}

func (l *ledger) ReturnSlice(_ context.Context, req *budgetv1.ReturnSliceRequest) (*budgetv1.ReturnSliceResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stuck {
		return nil, errAway
	}
	l.holds["slice "+req.GetEnvelopeId()] = "RETURNED"
	return &budgetv1.ReturnSliceResponse{}, nil
}

const (
	okBudget    = "0199c0de-0000-7000-8000-00000000b001"
	spentBudget = "0199c0de-0000-7000-8000-00000000b002"
)

type costs struct {
	costv1.UnimplementedCostServiceServer
}

func (costs) GetBudgetStatus(_ context.Context, req *costv1.GetBudgetStatusRequest) (*costv1.GetBudgetStatusResponse, error) {
	status := costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK
	switch req.GetBudgetId() {
	case okBudget:
	case spentBudget:
		status = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED
	default:
		return nil, fault.New(fault.NotFound, "there is no budget %s", req.GetBudgetId())
	}
	return &costv1.GetBudgetStatusResponse{Status: &costv1.BudgetStatus{BudgetId: req.GetBudgetId(), Status: status,
		CurrentSpend: &costv1.SpendSummary{TotalCostUsd: 1.5}}}, nil
}

func (costs) GetBudget(_ context.Context, req *costv1.GetBudgetRequest) (*costv1.GetBudgetResponse, error) {
	return &costv1.GetBudgetResponse{Budget: &costv1.Budget{
		BudgetId: req.GetBudgetId(), Name: "a budget", Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY}}}, nil
}

// ListBudgets plays both owners: the control plane, whose budgets have names, and
// the ledger, which knows how those asked for by id stand.
func (costs) ListBudgets(_ context.Context, req *costv1.ListBudgetsRequest) (*costv1.ListBudgetsResponse, error) {
	resp := &costv1.ListBudgetsResponse{}
	for _, id := range []string{okBudget, spentBudget} {
		if ids := req.GetBudgetIds(); len(ids) > 0 && !slices.Contains(ids, id) {
			continue
		}
		b := &costv1.Budget{BudgetId: id, Name: "a budget", Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY}}
		if len(req.GetBudgetIds()) > 0 || req.GetStatus() != 0 {
			day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
			b.CurrentSpend, b.ResetAt = &costv1.SpendSummary{TotalCostUsd: 1.5}, timestamppb.New(day.AddDate(0, 0, 1))
			b.Period.PeriodStart, b.Period.PeriodEnd = timestamppb.New(day), b.ResetAt
			b.Thresholds = []*costv1.NotificationThreshold{{ThresholdPercent: 80, Notified: id == spentBudget}}
			b.Status = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK
			if id == spentBudget {
				b.Status = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED
			}
			if s := req.GetStatus(); s != 0 && s != b.Status {
				continue
			}
		}
		resp.Budgets = append(resp.Budgets, b)
	}
	resp.TotalCount = int32(len(resp.Budgets))
	if req.GetStatus() != 0 {
		resp.NextPageToken, resp.TotalCount = "more", 7
	}
	return resp, nil
}

// GetSpendSummary plays the ledger and, once it is told the ledger's time zone,
// the event processor.
func (costs) GetSpendSummary(_ context.Context, req *costv1.GetSpendSummaryRequest) (*costv1.GetSpendSummaryResponse, error) {
	group := func(key string, s *costv1.SpendSummary) *costv1.GroupedSpendSummary {
		return &costv1.GroupedSpendSummary{GroupKey: key, Summary: s}
	}
	if req.GetTimeZone() == "" {
		day := timestamppb.New(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
		return &costv1.GetSpendSummaryResponse{
			TimeZone: "Europe/Berlin", Summary: &costv1.SpendSummary{TotalCostUsd: 3, TotalExecutionTimeSeconds: 90, PeriodStart: day, PeriodEnd: day},
			GroupedSummaries: []*costv1.GroupedSpendSummary{group("b", &costv1.SpendSummary{TotalCostUsd: 3})},
		}, nil
	}
	if req.GetTimeZone() != "Europe/Berlin" || req.GetStartTime() == nil || req.GetEndTime() == nil || req.GetWorkflowId() != "w" {
		return nil, fault.Field("time_zone", "is not that of the sums")
	}
	return &costv1.GetSpendSummaryResponse{
		Summary: &costv1.SpendSummary{TotalExecutions: 9, CompletedExecutions: 5, FailedExecutions: 1, TerminatedExecutions: 2},
		GroupedSummaries: []*costv1.GroupedSpendSummary{
			group("a", &costv1.SpendSummary{TotalExecutions: 4}), group("b", &costv1.SpendSummary{TotalExecutions: 5}),
		},
	}, nil
}

type oracles struct {
	brainv1.UnimplementedOracleServiceServer
}

func (oracles) GetPredictionModel(_ context.Context, req *brainv1.GetPredictionModelRequest) (*brainv1.GetPredictionModelResponse, error) {
	return &brainv1.GetPredictionModelResponse{Model: &brainv1.PredictionModel{WorkflowId: req.GetWorkflowId(), AvgCostPerRun: 0.5}}, nil
}

func (oracles) PredictBudgetOverrun(_ context.Context, req *brainv1.PredictBudgetOverrunRequest) (*brainv1.PredictBudgetOverrunResponse, error) {
	return &brainv1.PredictBudgetOverrunResponse{BudgetId: req.GetBudgetId(), OverrunProbability: 0.75}, nil
}

func (costs) GetCostSummary(context.Context, *costv1.GetCostSummaryRequest) (*costv1.GetCostSummaryResponse, error) {
	return &costv1.GetCostSummaryResponse{CostSummary: &envelopev1.CostSummary{TotalCostUsd: 0.25, LlmCallCount: 1}}, nil
}

type admins struct {
	controlplanev1.UnimplementedAdminServiceServer
}

func (admins) ListTenants(ctx context.Context, _ *controlplanev1.ListTenantsRequest) (*controlplanev1.ListTenantsResponse, error) {
	p, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return &controlplanev1.ListTenantsResponse{Tenants: []*controlplanev1.Tenant{{Name: p.Actor()}}}, p.MustBeAdmin()
}

type policies struct {
	policyv1.UnimplementedPolicyServiceServer
}

func (policies) CreatePolicy(_ context.Context, req *policyv1.CreatePolicyRequest) (*policyv1.CreatePolicyResponse, error) {
	req.Policy.PolicyId = uuid.NewString()
	req.Policy.CreatedAt = timestamppb.Now()
	return &policyv1.CreatePolicyResponse{Policy: req.GetPolicy()}, nil
}

func (policies) GetPolicy(_ context.Context, req *policyv1.GetPolicyRequest) (*policyv1.GetPolicyResponse, error) {
	return nil, fault.New(fault.NotFound, "there is no policy %s", req.GetPolicyId()).WithReason("POLICY_NOT_FOUND").WithHint("Look again.")
}

func (policies) ListPolicies(context.Context, *policyv1.ListPoliciesRequest) (*policyv1.ListPoliciesResponse, error) {
	return &policyv1.ListPoliciesResponse{}, nil
}

type events struct {
	eventstorev1.UnimplementedEventStoreServiceServer
}

func (events) QueryEvents(_ context.Context, req *eventstorev1.QueryEventsRequest) (*eventstorev1.QueryEventsResponse, error) {
	return &eventstorev1.QueryEventsResponse{Events: []*eventstorev1.StoredEvent{
		{EventId: "e1", EnvelopeId: req.GetExecutionId(), EventType: "tool_call"},
	}}, nil
}

func (events) StreamEvents(_ *eventstorev1.StreamEventsRequest, stream grpc.ServerStreamingServer[eventstorev1.StreamEventsResponse]) error {
	for _, id := range []string{"one", "two"} {
		if err := stream.Send(&eventstorev1.StreamEventsResponse{Event: &eventstorev1.StoredEvent{EventId: id}}); err != nil {
			return err
		}
	}
	return nil
}

// immune says who reported what.
type immune struct {
	brainv1.UnimplementedImmuneSystemServiceServer
}

func (immune) ReportIncident(ctx context.Context, req *brainv1.ReportIncidentRequest) (*brainv1.ReportIncidentResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return &brainv1.ReportIncidentResponse{IncidentId: who.Tenant.String() + " " + who.Actor() + " " + strings.Join(md.Get("idempotency-key"), ",") + " " + req.GetIncident().GetDescription()}, nil
}
