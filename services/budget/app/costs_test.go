package app_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// spendOnce holds and settles one call.
func spendOnce(t *testing.T, client served, ctx context.Context, s *budgetv1.Subject, in, out int64) {
	t.Helper()
	id := uuid.NewString()
	a, err := client.Reserve(ctx, &budgetv1.ReserveRequest{
		ReservationId: id, Subject: s, Amounts: &governancev1.Amounts{InputTokens: in, OutputTokens: out, LlmCalls: 1, ToolCalls: 1, Seconds: 4},
	})
	if err != nil || !a.GetGranted() {
		t.Fatalf("%v, %v", a, err)
	}
	if _, err := client.Settle(ctx, &budgetv1.SettleRequest{
		ReservationId: id, IdempotencyKey: "k", Subject: s, Usage: &governancev1.Usage{InputTokens: in, OutputTokens: out, ToolCalls: 1, Seconds: 3},
	}); err != nil {
		t.Fatal(err)
	}
}

// filled fails the test for every field of m that is not set, unless why says
// why it cannot be.
func filled(t *testing.T, m proto.Message, why map[string]string) {
	t.Helper()
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := string(f.Name())
		switch _, excused := why[name]; {
		case r.Has(f) && excused:
			t.Errorf("%s.%s is set, and excused for not being: %s", r.Descriptor().Name(), name, why[name])
		case !r.Has(f) && !excused:
			t.Errorf("%s.%s is not set", r.Descriptor().Name(), name)
		case r.Has(f) && f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap() && f.Message().FullName() == "":
			t.Errorf("%s.%s has no message", r.Descriptor().Name(), name)
		}
	}
}

const gatewayAdds = "counted by the event processor, added by the gateway"

// Every field that the contract defines is there, or it is said why not.
func TestEveryFieldOfTheContractIsAnswered(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	budget := uuid.NewString()
	publish(t, d, tenant, &costv1.Budget{
		BudgetId: budget, Name: "all", WorkflowId: "w",
		Limits: &costv1.BudgetLimits{
			MaxTokens: 10_000, MaxInputTokens: 10_000, MaxOutputTokens: 10_000, MaxCostUsd: 0.05, MaxLlmCalls: 20, MaxToolCalls: 20, MaxExecutionTimeSeconds: 300,
		},
		Thresholds: []*costv1.NotificationThreshold{{ThresholdPercent: 40}, {ThresholdPercent: 90}},
		Period:     &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_YEARLY},
	})
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	envelope := uuid.NewString()
	for i := range 10 {
		spendOnce(t, client, ctx, &budgetv1.Subject{
			Team: "red", AgentId: "a", WorkflowId: "w", ApiKeyId: "key", UserId: "u", EnvelopeId: envelope, Model: []string{"gpt-4o", "gpt-4o-mini"}[i%2],
		}, 300, 150+int64(i))
	}

	status, err := client.costs.GetBudgetStatus(ctx, &costv1.GetBudgetStatusRequest{BudgetId: budget})
	if err != nil {
		t.Fatal(err)
	}
	executions := map[string]string{
		"total_executions": "of one budget executions cannot be told apart", "completed_executions": "", "failed_executions": "",
		"terminated_executions": "", "average_execution_time_seconds": "",
	}
	filled(t, status.GetStatus(), map[string]string{"override": "none is in force"})
	filled(t, status.GetStatus().GetRemaining(), nil)
	filled(t, status.GetStatus().GetCurrentSpend(), executions)
	filled(t, status.GetStatus().GetNextThreshold(), map[string]string{"notified": "it is the next", "notified_at": ""})
	filled(t, status.GetStatus().GetCurrentSpend().GetModelCosts()[0], nil)
	var models float64
	for _, m := range status.GetStatus().GetCurrentSpend().GetModelCosts() {
		models += m.GetCostUsd()
	}
	if math.Abs(models-status.GetStatus().GetCurrentSpend().GetTotalCostUsd()) > 1e-9 {
		t.Errorf("the models add up to %v of %v", models, status.GetStatus().GetCurrentSpend())
	}

	list, err := client.costs.ListBudgets(ctx, &costv1.ListBudgetsRequest{BudgetIds: []string{budget}})
	if err != nil || len(list.GetBudgets()) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	b := list.GetBudgets()[0]
	const written = "the control plane's"
	filled(t, b, map[string]string{
		"workflow_id": written, "limits": written, "name": written, "description": written, "tags": written, "created_at": written,
		"updated_at": written, "scope": written, "mode": written, "time_zone": written, "etag": written, "suspended": written, "overrides": written, "wallet_id": written,
	})
	filled(t, b.GetCurrentSpend(), executions)
	filled(t, b.GetPeriod(), map[string]string{"period_type": written, "duration_seconds": written})
	filled(t, b.GetThresholds()[0], nil)
	if b.GetThresholds()[1].GetNotified() || b.GetThresholds()[1].GetNotifiedAt() != nil || !b.GetResetAt().AsTime().Equal(b.GetPeriod().GetPeriodEnd().AsTime()) {
		t.Errorf("standing %v", b)
	}

	cost, err := client.costs.GetCostSummary(ctx, &costv1.GetCostSummaryRequest{EnvelopeId: envelope})
	if err != nil {
		t.Fatal(err)
	}
	filled(t, cost.GetCostSummary(), nil)
	spent, err := client.costs.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{GroupBy: costv1.SpendGroupBy_SPEND_GROUP_BY_MODEL})
	if err != nil {
		t.Fatal(err)
	}
	filled(t, spent, nil)
	counted := map[string]string{
		"total_executions": gatewayAdds, "completed_executions": gatewayAdds, "failed_executions": gatewayAdds, "terminated_executions": gatewayAdds,
		"average_execution_time_seconds": gatewayAdds,
	}
	filled(t, spent.GetSummary(), counted)
	filled(t, spent.GetGroupedSummaries()[0].GetSummary(), counted)
	predicted, err := client.costs.PredictCost(ctx, &costv1.PredictCostRequest{WorkflowId: "w", ModelIds: []string{"gpt-4o"}, UseHistoricalData: true})
	if err != nil {
		t.Fatal(err)
	}
	filled(t, predicted, nil)
	filled(t, predicted.GetPrediction(), nil)
	filled(t, predicted.GetPrediction().GetModelPredictions()[0], nil)

	overrun, err := client.oracle.PredictBudgetOverrun(ctx, &brainv1.PredictBudgetOverrunRequest{BudgetId: budget})
	if err != nil {
		t.Fatal(err)
	}
	filled(t, overrun, nil)
	filled(t, overrun.GetModel(), map[string]string{"std_dev_cost_per_run": "there was one run"})
	filled(t, overrun.GetModel().GetError(), nil)
	if overrun.GetOverrunProbability() < 0.5 || overrun.GetRecommendedAction() != brainv1.RecommendedAction_RECOMMENDED_ACTION_REQUEST_QUOTA ||
		overrun.GetPredictedCost() <= status.GetStatus().GetCurrentSpend().GetTotalCostUsd() || overrun.GetPredictedCostLow() > overrun.GetPredictedCost() {
		t.Errorf("half a year's budget within moments: %v", overrun)
	}

	// Nobody else sees any of it, and without the scope neither does the tenant.
	stranger := as(t.Context(), other)
	unscoped := identity.With(t.Context(), identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"event:read"}})
	for name, call := range map[string]func(context.Context) (bool, error){
		"GetBudgetStatus": func(ctx context.Context) (bool, error) {
			_, err := client.costs.GetBudgetStatus(ctx, &costv1.GetBudgetStatusRequest{BudgetId: budget})
			return false, err
		},
		"ListBudgets": func(ctx context.Context) (bool, error) {
			r, err := client.costs.ListBudgets(ctx, &costv1.ListBudgetsRequest{BudgetIds: []string{budget}})
			return len(r.GetBudgets())+int(r.GetTotalCount()) > 0, err
		},
		"GetCostSummary": func(ctx context.Context) (bool, error) {
			r, err := client.costs.GetCostSummary(ctx, &costv1.GetCostSummaryRequest{EnvelopeId: envelope})
			return r.GetCostSummary().GetTotalCostUsd() > 0, err
		},
		"GetSpendSummary": func(ctx context.Context) (bool, error) {
			r, err := client.costs.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{GroupBy: costv1.SpendGroupBy_SPEND_GROUP_BY_MODEL})
			return len(r.GetGroupedSummaries()) > 0 || r.GetSummary().GetTotalTokens() > 0, err
		},
		"PredictCost": func(ctx context.Context) (bool, error) {
			r, err := client.costs.PredictCost(ctx, &costv1.PredictCostRequest{WorkflowId: "w", ModelIds: []string{"gpt-4o"}, UseHistoricalData: true})
			return r.GetHistoricalBased(), err
		},
		"PredictBudgetOverrun": func(ctx context.Context) (bool, error) {
			_, err := client.oracle.PredictBudgetOverrun(ctx, &brainv1.PredictBudgetOverrunRequest{BudgetId: budget})
			return false, err
		},
		"GetPredictionModel": func(ctx context.Context) (bool, error) {
			_, err := client.oracle.GetPredictionModel(ctx, &brainv1.GetPredictionModelRequest{WorkflowId: "w"})
			return false, err
		},
		"ListPredictionModels": func(ctx context.Context) (bool, error) {
			r, err := client.oracle.ListPredictionModels(ctx, &brainv1.ListPredictionModelsRequest{})
			return len(r.GetModels()) > 0, err
		},
	} {
		if saw, err := call(stranger); saw || err != nil && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s as another tenant: %v, %v", name, saw, err)
		}
		if _, err := call(unscoped); !fault.Is(err, fault.Denied) {
			t.Errorf("%s without the scope: %v", name, err)
		}
	}
}

// A list by status is by what was spent, and its pages neither repeat nor skip.
func TestBudgetsAreFoundByTheirStatus(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	var budgets []*costv1.Budget
	want := map[costv1.BudgetStatusType][]string{}
	for i := range 40 {
		b := &costv1.Budget{
			BudgetId: uuid.NewString(), Name: fmt.Sprint(i), Scope: &costv1.BudgetScope{AgentId: fmt.Sprint("agent", i)}, Limits: &costv1.BudgetLimits{MaxLlmCalls: 100},
			Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_YEARLY}, Suspended: i%8 == 7, WorkflowId: []string{"", "w"}[i/20],
		}
		budgets = append(budgets, b)
	}
	publish(t, d, tenant, budgets...)
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	statuses := []costv1.BudgetStatusType{
		costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK, costv1.BudgetStatusType_BUDGET_STATUS_TYPE_WARNING,
		costv1.BudgetStatusType_BUDGET_STATUS_TYPE_CRITICAL, costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED,
	}
	for i, b := range budgets {
		s := statuses[i%4]
		if b.GetSuspended() {
			s = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED
		} else if calls := []int64{0, 80, 95, 100}[i%4]; calls > 0 {
			if a, err := client.Reserve(ctx, &budgetv1.ReserveRequest{
				ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{AgentId: fmt.Sprint("agent", i), WorkflowId: b.GetWorkflowId()}, Amounts: &governancev1.Amounts{LlmCalls: calls},
			}); err != nil || !a.GetGranted() {
				t.Fatalf("%v, %v", a, err)
			} else if _, err := client.Settle(ctx, &budgetv1.SettleRequest{ReservationId: a.GetHold().GetReservationId(), IdempotencyKey: "k"}); err != nil {
				t.Fatal(err)
			}
		}
		want[s] = append(want[s], b.GetBudgetId())
	}
	for status, ids := range want {
		slices.Sort(ids)
		var got []string
		token := ""
		for {
			page, err := client.costs.ListBudgets(ctx, &costv1.ListBudgetsRequest{Status: status, PageSize: 3, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			if int(page.GetTotalCount()) != len(ids) {
				t.Errorf("%s: %d in all, want %d", status, page.GetTotalCount(), len(ids))
			}
			for _, b := range page.GetBudgets() {
				if b.GetStatus() != status {
					t.Errorf("%s among %s", b, status)
				}
				got = append(got, b.GetBudgetId())
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%s: %v, want %v", status, got, ids)
		}
	}
	page, err := client.costs.ListBudgets(ctx, &costv1.ListBudgetsRequest{PageSize: 3, WorkflowId: "w"})
	if err != nil || page.GetTotalCount() != 20 || len(page.GetBudgets()) != 3 {
		t.Fatalf("of a workflow: %v, %v", page, err)
	}
	for name, req := range map[string]*costv1.ListBudgetsRequest{
		"a token of another list": {PageSize: 3, PageToken: page.GetNextPageToken()},
		"no token":                {PageToken: "AAAA"},
		"no id":                   {BudgetIds: []string{"b"}},
		"a page too large":        {PageSize: 1001},
	} {
		if _, err := client.costs.ListBudgets(ctx, req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Groups begin by the clock of the zone, also where it changes, and say which
// hours they add up.
func TestSpendingIsGroupedByTheZonesCalendar(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	// One dollar an hour over the weekend in which Berlin's clock goes back.
	first, until := time.Date(2025, 10, 24, 22, 0, 0, 0, time.UTC), time.Date(2025, 10, 27, 23, 0, 0, 0, time.UTC)
	err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `insert into fulcrum.spend_rollups (tenant_id, hour, workflow_id, team, agent_id, api_key_id, model, cost_nano)
			select $1, h, '', '', '', '', 'm', 1000000000 from generate_series($2::timestamptz, $3::timestamptz - interval '1 s', interval '1 h') h`, tenant, first, until)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	type group struct {
		key        string
		cost       float64
		start, end time.Time
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(month, day, hour int) time.Time {
		return time.Date(2025, time.Month(month), day, hour, 0, 0, 0, berlin)
	}
	ask := &costv1.GetSpendSummaryRequest{StartTime: timestamppb.New(first.Add(-72 * time.Hour)), EndTime: timestamppb.New(at(10, 28, 12).Add(20 * time.Minute)), TimeZone: "Europe/Berlin"}
	for by, want := range map[costv1.SpendGroupBy][]group{
		costv1.SpendGroupBy_SPEND_GROUP_BY_DAY: {
			{"2025-10-25", 24, at(10, 25, 0), at(10, 26, 0)}, {"2025-10-26", 25, at(10, 26, 0), at(10, 27, 0)}, {"2025-10-27", 24, at(10, 27, 0), at(10, 28, 0)},
		},
		costv1.SpendGroupBy_SPEND_GROUP_BY_WEEK: {
			{"2025-10-20", 49, ask.GetStartTime().AsTime(), at(10, 27, 0)}, {"2025-10-27", 24, at(10, 27, 0), at(10, 28, 13)},
		},
		costv1.SpendGroupBy_SPEND_GROUP_BY_MONTH: {{"2025-10", 73, ask.GetStartTime().AsTime(), at(10, 28, 13)}},
	} {
		ask.GroupBy = by
		got, err := client.costs.GetSpendSummary(ctx, ask)
		if err != nil {
			t.Fatal(err)
		}
		if s := got.GetSummary(); s.GetTotalCostUsd() != 73 || !s.GetPeriodEnd().AsTime().Equal(at(10, 28, 13)) || got.GetTimeZone() != "Europe/Berlin" {
			t.Errorf("%s: %v", by, got)
		}
		if len(got.GetGroupedSummaries()) != len(want) {
			t.Fatalf("%s: %v", by, got.GetGroupedSummaries())
		}
		for i, g := range got.GetGroupedSummaries() {
			s := g.GetSummary()
			if g.GetGroupKey() != want[i].key || s.GetTotalCostUsd() != want[i].cost || !s.GetPeriodStart().AsTime().Equal(want[i].start) || !s.GetPeriodEnd().AsTime().Equal(want[i].end) {
				t.Errorf("%s: %v, want %v", by, g, want[i])
			}
		}
	}
	ask.GroupBy = costv1.SpendGroupBy_SPEND_GROUP_BY_UNSPECIFIED
	ask.StartTime, ask.EndTime = timestamppb.New(first.Add(10*time.Minute)), timestamppb.New(first.Add(70*time.Minute))
	if got, err := client.costs.GetSpendSummary(ctx, ask); err != nil || got.GetSummary().GetTotalCostUsd() != 2 || len(got.GetGroupedSummaries()) != 0 ||
		!got.GetSummary().GetPeriodStart().AsTime().Equal(first) || !got.GetSummary().GetPeriodEnd().AsTime().Equal(first.Add(2*time.Hour)) {
		t.Errorf("parts of two hours are two hours: %v, %v", got, err)
	}
	ask.EndTime = ask.StartTime
	if got, err := client.costs.GetSpendSummary(ctx, ask); err != nil || got.GetSummary().GetTotalCostUsd() != 0 {
		t.Errorf("no time at all: %v, %v", got, err)
	}
	for name, req := range map[string]*costv1.GetSpendSummaryRequest{
		"an end before its start": {StartTime: timestamppb.New(until), EndTime: timestamppb.New(first)},
		"a zone of nowhere":       {TimeZone: "Mars/Olympus"},
		"no place":                {TimeZone: "Local"},
		"a time out of range":     {StartTime: &timestamppb.Timestamp{Seconds: 1 << 60}},
	} {
		if _, err := client.costs.GetSpendSummary(ctx, req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A workflow's model is its latest runs, each an envelope.
func TestTheModelOfAWorkflowIsItsRuns(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	for w := range 3 {
		for run := range 4 {
			envelope := uuid.NewString()
			for range run + 1 { // 1, 2, 3 and 4 calls a run
				spendOnce(t, client, ctx, &budgetv1.Subject{WorkflowId: fmt.Sprint("w", w), EnvelopeId: envelope, Model: "gpt-4o"}, 1000, 100)
			}
		}
	}
	const call = 1000*2.5e-6 + 100*10e-6
	got, err := client.oracle.GetPredictionModel(ctx, &brainv1.GetPredictionModelRequest{WorkflowId: "w1"})
	if err != nil {
		t.Fatal(err)
	}
	filled(t, got.GetModel(), nil)
	m := got.GetModel()
	if got.GetFromCache() || m.GetSampleSize() != 4 || math.Abs(m.GetAvgCostPerRun()-2.5*call) > 1e-9 || math.Abs(m.GetStdDevCostPerRun()-math.Sqrt(5.0/3)*call) > 1e-9 ||
		m.GetAvgTokensPerRun() != 2750 || m.GetRunsPerHour() != 4 {
		t.Errorf("model %v", got)
	}
	spendOnce(t, client, ctx, &budgetv1.Subject{WorkflowId: "w1", EnvelopeId: uuid.NewString(), Model: "gpt-4o"}, 1000, 100)
	if got, err = client.oracle.GetPredictionModel(ctx, &brainv1.GetPredictionModelRequest{WorkflowId: "w1"}); err != nil || !got.GetFromCache() || got.GetModel().GetSampleSize() != 4 {
		t.Errorf("a moment later it is the same: %v, %v", got, err)
	}
	if got, err = client.oracle.GetPredictionModel(ctx, &brainv1.GetPredictionModelRequest{WorkflowId: "w1", ForceRebuild: true}); err != nil || got.GetFromCache() || got.GetModel().GetSampleSize() != 5 {
		t.Errorf("made anew: %v, %v", got, err)
	}
	if _, err = client.oracle.GetPredictionModel(ctx, &brainv1.GetPredictionModelRequest{WorkflowId: "never"}); !fault.HasReason(err, "MODEL_NOT_FOUND") {
		t.Errorf("a workflow that never ran: %v", err)
	}
	if _, err = client.oracle.PredictBudgetOverrun(ctx, &brainv1.PredictBudgetOverrunRequest{BudgetId: uuid.NewString()}); !fault.HasReason(err, "BUDGET_NOT_FOUND") {
		t.Errorf("no such budget: %v", err)
	}
	var names []string
	token := ""
	for {
		page, err := client.oracle.ListPredictionModels(ctx, &brainv1.ListPredictionModelsRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.GetModels() {
			names = append(names, m.GetWorkflowId())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(names, []string{"w0", "w1", "w2"}) {
		t.Errorf("models of %v", names)
	}
}
