package app_test

import (
	"context"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
)

func TestBadRequestsAreRefusedByField(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	publish(t, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}})
	client := start(t, d)
	ctx := as(t.Context(), tenant)

	good := func() *budgetv1.ReserveRequest {
		return &budgetv1.ReserveRequest{ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{}, Amounts: &governancev1.Amounts{CostNano: 1}}
	}
	for name, change := range map[string]func(*budgetv1.ReserveRequest){
		"no id":                 func(r *budgetv1.ReserveRequest) { r.ReservationId = "" },
		"an id of another form": func(r *budgetv1.ReserveRequest) { r.ReservationId = "42" },
		"the nil id":            func(r *budgetv1.ReserveRequest) { r.ReservationId = uuid.Nil.String() },
		"no amounts":            func(r *budgetv1.ReserveRequest) { r.Amounts = nil },
		"zero amounts":          func(r *budgetv1.ReserveRequest) { r.Amounts = &governancev1.Amounts{} },
		"negative cost":         func(r *budgetv1.ReserveRequest) { r.Amounts.CostNano = -1 },
		"negative tokens":       func(r *budgetv1.ReserveRequest) { r.Amounts.InputTokens = -5 },
		"too much money":        func(r *budgetv1.ReserveRequest) { r.Amounts.CostNano = math.MaxInt64 },
		"tokens that sum up to too many": func(r *budgetv1.ReserveRequest) {
			r.Amounts.InputTokens, r.Amounts.OutputTokens = math.MaxInt64/2, math.MaxInt64/2+1
		},
		"no time to live":        func(r *budgetv1.ReserveRequest) { r.Ttl = durationpb.New(0) },
		"a day and more to live": func(r *budgetv1.ReserveRequest) { r.Ttl = durationpb.New(25 * time.Hour) },
		"no subject":             func(r *budgetv1.ReserveRequest) { r.Subject = nil },
		"an endless name":        func(r *budgetv1.ReserveRequest) { r.Subject.Team = strings.Repeat("x", 257) },
		"a zero byte":            func(r *budgetv1.ReserveRequest) { r.Subject.UserId = "a\x00b" },
		"too many ancestors":     func(r *budgetv1.ReserveRequest) { r.Subject.AncestorEnvelopeIds = make([]string, 11) },
		"limits of no envelope":  func(r *budgetv1.ReserveRequest) { r.EnvelopeLimits = []*budgetv1.EnvelopeLimits{{}} },
		"a negative limit": func(r *budgetv1.ReserveRequest) {
			r.EnvelopeLimits = []*budgetv1.EnvelopeLimits{{EnvelopeId: uuid.NewString(), MaxTokens: -1}}
		},
	} {
		req := good()
		change(req)
		_, err := client.Reserve(ctx, req)
		if f, ok := fault.As(err); !ok || f.Kind != fault.Invalid || len(f.Violations) == 0 || f.Violations[0].Field == "" {
			t.Errorf("%s: %v, want it refused as invalid, by its field", name, err)
		}
	}
	unknown := good()
	unknown.BudgetId = "nobody's"
	if _, err := client.Reserve(ctx, unknown); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown budget: %v", err)
	}
	priceless := good()
	priceless.Subject.Model, priceless.Amounts = "never-heard-of", &governancev1.Amounts{InputTokens: 5}
	if a, err := client.Reserve(ctx, priceless); err != nil || a.GetGranted() || a.GetReason() != "PRICE_UNKNOWN" {
		t.Errorf("an unknown price: %v, %v", a, err)
	}

	req := good()
	if _, err := client.Reserve(ctx, req); err != nil {
		t.Fatal(err)
	}
	changed := proto.CloneOf(req)
	changed.Amounts.CostNano++
	if _, err := client.Reserve(ctx, changed); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") || !fault.Is(err, fault.Conflict) {
		t.Errorf("the id with another amount: %v", err)
	}
	usd := func(n float64) *float64 { return &n }
	for name, call := range map[string]func(ctx context.Context) error{
		"Settle": func(ctx context.Context) error {
			_, err := client.Settle(ctx, &budgetv1.SettleRequest{ReservationId: req.GetReservationId(), IdempotencyKey: "k", Usage: &governancev1.Usage{CostUsd: usd(0)}})
			return err
		},
		"Release": func(ctx context.Context) error {
			_, err := client.Release(ctx, &budgetv1.ReleaseRequest{ReservationId: req.GetReservationId(), IdempotencyKey: "k"})
			return err
		},
		"Renew": func(ctx context.Context) error {
			_, err := client.Renew(ctx, &budgetv1.RenewRequest{ReservationId: req.GetReservationId(), IdempotencyKey: "k", Ttl: durationpb.New(time.Minute)})
			return err
		},
		"GetReservation": func(ctx context.Context) error {
			_, err := client.GetReservation(ctx, &budgetv1.GetReservationRequest{ReservationId: req.GetReservationId()})
			return err
		},
	} {
		if err := call(as(t.Context(), other)); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s of another tenant's reservation: %v", name, err)
		}
		if err := call(t.Context()); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s without a caller: %v", name, err)
		}
	}
	for name, u := range map[string]*governancev1.Usage{
		"negative money": {CostUsd: usd(-1)}, "no number": {CostUsd: usd(math.NaN())}, "negative tokens": {InputTokens: -1}, "endless money": {CostUsd: usd(1e300)},
	} {
		_, err := client.Settle(ctx, &budgetv1.SettleRequest{ReservationId: req.GetReservationId(), IdempotencyKey: "k", Usage: u})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("Settle with %s: %v", name, err)
		}
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations`); n != 1 {
		t.Errorf("%d reservations, want the good one", n)
	}
	balance.Check(t, d.AdminURL)
}

func TestSpendingIsSummedUp(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	budget := uuid.NewString()
	publish(t, d, tenant, &costv1.Budget{
		BudgetId: budget, Name: "all", Limits: &costv1.BudgetLimits{MaxCostUsd: 10, MaxLlmCalls: 100},
		Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_YEARLY},
	})
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	envelope := uuid.NewString()
	for i := range 10 {
		req := &budgetv1.ReserveRequest{
			ReservationId: uuid.NewString(),
			Subject: &budgetv1.Subject{
				Team: []string{"red", "blue"}[i%2], AgentId: "agent", WorkflowId: []string{"w", ""}[i%2], ApiKeyId: "key", UserId: "u",
				Model: []string{"gpt-4o", "gpt-4o-mini"}[i%2], EnvelopeId: envelope,
			},
			Amounts: &governancev1.Amounts{InputTokens: 1000, OutputTokens: 1000, LlmCalls: 1},
		}
		if a, err := client.Reserve(ctx, req); err != nil || !a.GetGranted() {
			t.Fatalf("%v, %v", a, err)
		}
		if _, err := client.Settle(ctx, &budgetv1.SettleRequest{
			ReservationId: req.GetReservationId(), IdempotencyKey: "k", Usage: &governancev1.Usage{InputTokens: 1000, OutputTokens: 100},
		}); err != nil {
			t.Fatal(err)
		}
	}
	const big, small = 1000*2.5e-6 + 100*10e-6, 1000*0.15e-6 + 100*0.6e-6 // dollars a call
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	costs, err := client.costs.GetCostSummary(ctx, &costv1.GetCostSummaryRequest{EnvelopeId: envelope})
	if err != nil {
		t.Fatal(err)
	}
	sum := costs.GetCostSummary()
	near("envelope", sum.GetTotalCostUsd(), 5*big+5*small)
	if sum.GetLlmCallCount() != 10 || sum.GetTotalInputTokens() != 10_000 || len(sum.GetModelCosts()) != 2 {
		t.Errorf("envelope: %v", sum)
	}
	for by, want := range map[costv1.SpendGroupBy]map[string]float64{
		costv1.SpendGroupBy_SPEND_GROUP_BY_UNSPECIFIED: {},
		costv1.SpendGroupBy_SPEND_GROUP_BY_MODEL:       {"gpt-4o": 5 * big, "gpt-4o-mini": 5 * small},
		costv1.SpendGroupBy_SPEND_GROUP_BY_TEAM:        {"red": 5 * big, "blue": 5 * small},
		costv1.SpendGroupBy_SPEND_GROUP_BY_WORKFLOW:    {"w": 5 * big, "": 5 * small},
		costv1.SpendGroupBy_SPEND_GROUP_BY_AGENT:       {"agent": 5*big + 5*small},
		costv1.SpendGroupBy_SPEND_GROUP_BY_API_KEY:     {"key": 5*big + 5*small},
	} {
		got, err := client.costs.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{GroupBy: by})
		if err != nil {
			t.Fatal(err)
		}
		near(by.String(), got.GetSummary().GetTotalCostUsd(), 5*big+5*small)
		if len(got.GetGroupedSummaries()) != len(want) {
			t.Errorf("%s: %v", by, got.GetGroupedSummaries())
		}
		for _, g := range got.GetGroupedSummaries() {
			near(by.String()+" "+g.GetGroupKey(), g.GetSummary().GetTotalCostUsd(), want[g.GetGroupKey()])
		}
	}
	for _, by := range []costv1.SpendGroupBy{
		costv1.SpendGroupBy_SPEND_GROUP_BY_DAY, costv1.SpendGroupBy_SPEND_GROUP_BY_WEEK, costv1.SpendGroupBy_SPEND_GROUP_BY_MONTH,
	} {
		got, err := client.costs.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{GroupBy: by})
		if err != nil || len(got.GetGroupedSummaries()) == 0 || !strings.HasPrefix(got.GetGroupedSummaries()[0].GetGroupKey(), "20") {
			t.Errorf("%s: %v, %v", by, got, err)
		}
	}
	past, err := client.costs.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{EndTime: timestamppb.New(time.Now().Add(-48 * time.Hour))})
	if err != nil || past.GetSummary().GetTotalCostUsd() != 0 {
		t.Errorf("before anything was spent: %v, %v", past, err)
	}
	status, err := client.costs.GetBudgetStatus(ctx, &costv1.GetBudgetStatusRequest{BudgetId: budget})
	if err != nil {
		t.Fatal(err)
	}
	s := status.GetStatus()
	near("spent", s.GetCurrentSpend().GetTotalCostUsd(), 5*big+5*small)
	near("percent", float64(s.GetLlmCallUsagePercent()), 10)
	if s.GetStatus() != costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK || s.GetRemaining().GetMaxLlmCalls() != 90 || s.GetNextThreshold().GetThresholdPercent() != 80 {
		t.Errorf("status: %v", s)
	}
	if _, err := client.costs.GetBudgetStatus(as(t.Context(), other), &costv1.GetBudgetStatusRequest{BudgetId: budget}); !fault.Is(err, fault.NotFound) {
		t.Errorf("status of another tenant's budget: %v", err)
	}
	if got, err := client.costs.GetCostSummary(as(t.Context(), other), &costv1.GetCostSummaryRequest{EnvelopeId: envelope}); err != nil || got.GetCostSummary().GetTotalCostUsd() != 0 {
		t.Errorf("another tenant sees costs: %v, %v", got, err)
	}

	p, err := client.costs.PredictCost(ctx, &costv1.PredictCostRequest{ModelIds: []string{"gpt-4o"}, EstimatedInputTokens: 2000})
	if err != nil || p.GetHistoricalBased() || p.GetPrediction().GetConfidenceLevel() != "low" {
		t.Errorf("without history: %v, %v", p, err)
	}
	p, err = client.costs.PredictCost(ctx, &costv1.PredictCostRequest{UseHistoricalData: true})
	if err != nil || !p.GetHistoricalBased() || p.GetSampleSize() != 10 || len(p.GetPrediction().GetModelPredictions()) != 2 {
		t.Fatalf("by history: %v, %v", p, err)
	}
	near("predicted", p.GetPrediction().GetEstimatedCostUsd(), big+small)
	if q := p.GetPrediction(); q.GetEstimatedCostUsdMin() > q.GetEstimatedCostUsd() || q.GetEstimatedCostUsd() > q.GetEstimatedCostUsdMax() {
		t.Errorf("out of its own bounds: %v", q)
	}
	if _, err := client.costs.PredictCost(ctx, &costv1.PredictCostRequest{ModelIds: []string{"never-heard-of"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown model: %v", err)
	}
	facts(t, d, tenant, envelope)
}

// facts looks at the cost events as the event-processor will get them.
func facts(t *testing.T, d *dbtest.Database, tenant uuid.UUID, envelope string) {
	t.Helper()
	err := d.DB.Read(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := tx.Query(ctx, `select event from fulcrum.outbox where tenant_id = $1 and type = 'cost_recorded' order by seq`, tenant)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			var data []byte
			if err := rows.Scan(&data); err != nil {
				return err
			}
			var e busv1.Event
			if err := proto.Unmarshal(data, &e); err != nil {
				return err
			}
			if e.GetCost().GetCostNano() <= 0 || e.GetCost().GetModel() == "" || e.GetCost().GetInputTokens() != 1000 || e.GetCost().GetPriceVersion() == "" ||
				e.GetEnvelopeId() != envelope || e.GetAgentId() != "agent" || e.GetTeam() == "" || e.GetApiKeyId() != "key" || e.GetUserId() != "u" ||
				e.GetOrigin() != busv1.Origin_ORIGIN_SYSTEM || e.GetWriter() != "budget" {
				t.Errorf("event %v", &e)
			}
		}
		if n != 10 {
			t.Errorf("%d cost events, want 10", n)
		}
		return rows.Err()
	})
	if err != nil {
		t.Error(err)
	}
}

// An operator sees what is spent, how batches go, and that the ledger adds up.
func TestTheOperationsPortTells(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}})
	client := start(t, d)
	if _, err := client.Reserve(as(t.Context(), tenant), &budgetv1.ReserveRequest{
		ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{}, Amounts: &governancev1.Amounts{CostNano: 250_000_000},
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`fulcrum_budget_usage_dollars{budget_id="b",`, `state="held",`, "fulcrum_budget_batch_operations", "fulcrum_budget_flush_seconds",
		"fulcrum_budget_queue_depth", `fulcrum_budget_reserve_total{`, `outcome="granted"`, "fulcrum_budget_ledger_differences",
	}
	var body string
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		body = get(t, "http://"+client.ops+"/metrics")
		missing := ""
		for _, text := range want {
			if !strings.Contains(body, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		select { // the first check of the ledger may still be running
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no %s in\n%s", missing, body)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}
