package api_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

func TestABudgetIsWrittenChangedAndEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := daily("team red", 12.5)
	m.WorkflowId, m.TimeZone = "nightly", "Europe/Berlin"
	m.Thresholds = []*costv1.NotificationThreshold{{ThresholdPercent: 90, Notified: true}, {ThresholdPercent: 50}}
	m.CurrentSpend = &costv1.SpendSummary{TotalCostUsd: 99}
	stored := b.createBudget(b.all(), m)
	want := daily("team red", 12.5)
	want.WorkflowId, want.TimeZone, want.Mode = "nightly", "Europe/Berlin", costv1.BudgetMode_BUDGET_MODE_HARD
	want.Scope = &costv1.BudgetScope{WorkflowId: "nightly"}
	want.Thresholds = []*costv1.NotificationThreshold{{ThresholdPercent: 50}, {ThresholdPercent: 90}}
	ignored := protocmp.IgnoreFields(&costv1.Budget{}, "budget_id", "tenant_id", "created_at", "updated_at", "etag")
	if diff := cmp.Diff(want, stored, protocmp.Transform(), ignored); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	got, err := b.cost.GetBudget(b.all(), &costv1.GetBudgetRequest{BudgetId: stored.GetBudgetId()})
	if err != nil || !cmp.Equal(got.GetBudget(), stored, protocmp.Transform()) {
		t.Errorf("get: %v %v", got, err)
	}

	update := func(patch *costv1.Budget, mask ...string) *costv1.Budget {
		t.Helper()
		patch.BudgetId = stored.GetBudgetId()
		resp, err := b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{Budget: patch, UpdateMask: mask})
		if err != nil {
			t.Fatal(err)
		}
		if published := b.budgetBundle(b.tenantA).GetBudgets()[0]; !cmp.Equal(published, resp.GetBudget(), protocmp.Transform()) {
			t.Errorf("published %v, answered %v", published, resp.GetBudget())
		}
		return resp.GetBudget()
	}
	m = update(&costv1.Budget{Limits: &costv1.BudgetLimits{MaxTokens: 1000}})
	if m.GetLimits().GetMaxCostUsd() != 12.5 || m.GetLimits().GetMaxTokens() != 1000 || m.GetEtag() == stored.GetEtag() {
		t.Errorf("one more limit: %v", m)
	}
	m = update(&costv1.Budget{Limits: &costv1.BudgetLimits{MaxTokens: 1000}}, "limits")
	if m.GetLimits().GetMaxCostUsd() != 0 {
		t.Errorf("the limits as a whole: %v", m)
	}
	m = update(&costv1.Budget{Limits: &costv1.BudgetLimits{MaxCostUsd: 3}}, "limits.maxCostUsd", "description")
	if m.GetLimits().GetMaxCostUsd() != 3 || m.GetLimits().GetMaxTokens() != 1000 {
		t.Errorf("one limit by its JSON name: %v", m)
	}
	m = update(&costv1.Budget{WorkflowId: "weekly"})
	if m.GetScope().GetWorkflowId() != "weekly" {
		t.Errorf("another workflow: %v", m)
	}
	m = update(&costv1.Budget{Scope: &costv1.BudgetScope{Team: "red"}}, "scope")
	if m.GetWorkflowId() != "" || m.GetScope().GetTeam() != "red" {
		t.Errorf("another scope: %v", m)
	}
	suspended := costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED
	if m = update(&costv1.Budget{Status: suspended}, "status"); !m.GetSuspended() || m.GetStatus() != suspended {
		t.Errorf("suspended by status: %v", m)
	}
	same := update(m) // sent back as read
	if !cmp.Equal(same, m, protocmp.Transform()) {
		t.Errorf("sent back as read: %v, want %v", same, m)
	}
	if m = update(&costv1.Budget{}, "suspended"); m.GetSuspended() || m.GetStatus() == suspended {
		t.Errorf("resumed: %v", m)
	}

	if _, err := b.cost.DeleteBudget(b.all(), &costv1.DeleteBudgetRequest{BudgetId: m.GetBudgetId()}); err != nil {
		t.Error(err)
	}
	_, err = b.cost.DeleteBudget(b.all(), &costv1.DeleteBudgetRequest{BudgetId: m.GetBudgetId()})
	wantKind(t, "delete again", err, fault.NotFound, "")
	if n := len(b.budgetBundle(b.tenantA).GetBudgets()); n != 0 {
		t.Errorf("%d budgets after the only one ended", n)
	}
}

func TestBudgetsAreListedByWhatIsKnownHere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plain, flow, held := daily("plain", 1), daily("flow", 1), daily("held", 1)
	flow.Scope, held.Suspended = &costv1.BudgetScope{WorkflowId: "w"}, true
	for _, m := range []*costv1.Budget{plain, flow, held} {
		b.createBudget(b.all(), m)
	}
	for _, tt := range []struct {
		req  *costv1.ListBudgetsRequest
		want []string
	}{
		{&costv1.ListBudgetsRequest{}, []string{"plain", "flow", "held"}},
		{&costv1.ListBudgetsRequest{WorkflowId: "w"}, []string{"flow"}},
		{&costv1.ListBudgetsRequest{Status: costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED}, []string{"held"}},
		{&costv1.ListBudgetsRequest{Status: costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK}, []string{"plain", "flow"}},
	} {
		resp, err := b.cost.ListBudgets(b.all(), tt.req)
		var got []string
		for _, m := range resp.GetBudgets() {
			got = append(got, m.GetName())
		}
		if err != nil || !slices.Equal(got, tt.want) || int(resp.GetTotalCount()) != len(tt.want) {
			t.Errorf("list %v: %v of %d (%v), want %v", tt.req, got, resp.GetTotalCount(), err, tt.want)
		}
	}
}

// The bundle carries the tenant's prices too.
func TestPricesArePublishedWithBudgets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dbtest.Admin(t, b.Database, `insert into fulcrum.price_versions
		(tenant_id, id, model, input_per_million_nano, output_per_million_nano, cached_input_per_million_nano, reasoning_per_million_nano, per_call_nano, effective_from, version, created_by)
		values ('`+b.tenantA.String()+`', gen_random_uuid(), 'gpt-x', 1, 2, 3, 4, 5, '2026-01-01', 'tenant-1', 'test')`)
	b.createBudget(b.all(), daily("x", 1))
	prices := b.budgetBundle(b.tenantA).GetPrices()
	if len(prices) != 1 || prices[0].GetModel() != "gpt-x" || prices[0].GetInputNanoPerMillion() != 1 || prices[0].GetOutputNanoPerMillion() != 2 ||
		prices[0].GetCachedInputNanoPerMillion() != 3 || prices[0].GetReasoningNanoPerMillion() != 4 || prices[0].GetPerCallNano() != 5 || prices[0].GetVersion() != "tenant-1" {
		t.Errorf("prices: %v", prices)
	}
}

func TestAnAgentIsRegisteredChangedAndDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	resp, err := b.agents.CreateAgent(b.all(), &agentv1.CreateAgentRequest{Name: "scout", Model: "m", Environment: "prod", Team: "red", Description: "looks"})
	if err != nil {
		t.Fatal(err)
	}
	a := resp.GetAgent()
	b.createAgent(b.all(), "another")
	if a.GetStatus() != "active" || a.GetTenantId() != b.tenantA.String() || a.GetTeam() != "red" {
		t.Errorf("created: %v", a)
	}
	got, err := b.agents.GetAgent(b.all(), &agentv1.GetAgentRequest{Id: a.GetId()})
	if err != nil || !cmp.Equal(got.GetAgent(), a, protocmp.Transform()) {
		t.Errorf("get: %v %v", got, err)
	}
	updated, err := b.agents.UpdateAgent(b.all(), &agentv1.UpdateAgentRequest{Id: a.GetId(), Status: "paused"})
	if err != nil || updated.GetAgent().GetStatus() != "paused" || updated.GetAgent().GetDescription() != "looks" {
		t.Errorf("update: %v %v", updated, err)
	}
	list := func(req *agentv1.ListAgentsRequest) (names []string) {
		resp, err := b.agents.ListAgents(b.all(), req)
		if err != nil || int(resp.GetTotalCount()) != len(resp.GetAgents()) {
			t.Errorf("list %v: %v %v", req, resp, err)
		}
		for _, a := range resp.GetAgents() {
			names = append(names, a.GetName())
		}
		return names
	}
	if got := list(&agentv1.ListAgentsRequest{Team: "red", Environment: "prod", Status: "paused"}); !slices.Equal(got, []string{"scout"}) {
		t.Errorf("by team: %v", got)
	}
	if _, err := b.agents.DeleteAgent(b.all(), &agentv1.DeleteAgentRequest{Id: a.GetId()}); err != nil {
		t.Fatal(err)
	}
	if got := list(&agentv1.ListAgentsRequest{}); !slices.Equal(got, []string{"another"}) {
		t.Errorf("after delete: %v", got)
	}
	if got := list(&agentv1.ListAgentsRequest{Status: "deleted"}); !slices.Equal(got, []string{"scout"}) {
		t.Errorf("the deleted: %v", got)
	}
	_, err = b.agents.UpdateAgent(b.all(), &agentv1.UpdateAgentRequest{Id: a.GetId(), Name: "back"})
	wantKind(t, "change the deleted", err, fault.Precondition, "AGENT_DELETED")
}

// Whoever reads the record later knows who did what to what, and what it was
// before and after.
func TestEveryChangeIsOnTheRecord(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.createBudget(b.all(), daily("before", 1))
	if _, err := b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{Budget: &costv1.Budget{BudgetId: m.GetBudgetId(), Name: "after"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.cost.DeleteBudget(b.all(), &costv1.DeleteBudgetRequest{BudgetId: m.GetBudgetId()}); err != nil {
		t.Fatal(err)
	}
	var got [][4]string
	for _, e := range b.events(b.tenantA) {
		if e.GetStream() != busv1.Stream_STREAM_EVENTS {
			continue
		}
		if e.GetWriter() != "control-plane" || e.GetOrigin() != busv1.Origin_ORIGIN_SYSTEM || e.GetActor() != "user:ada" || e.GetResource() != "budget:"+m.GetBudgetId() {
			t.Errorf("event: %v", e)
		}
		name := func(side string) string {
			return e.GetPayload().GetFields()[side].GetStructValue().GetFields()["name"].GetStringValue()
		}
		got = append(got, [4]string{e.GetType(), e.GetAction(), name("before"), name("after")})
	}
	want := [][4]string{
		{"budget_created", "budget.create", "", "before"},
		{"budget_updated", "budget.update", "before", "after"},
		{"budget_deleted", "budget.delete", "after", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// The gateway shows in which window a budget is. Whoever sends back what they
// read changes nothing by it, but for where a custom period starts.
func TestWhatIsReadCanBeSentBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stored := b.createBudget(b.all(), daily("d", 1))
	at := func(hour int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: hour * 3600} }
	send := func(change func(*costv1.Budget)) *costv1.Budget {
		t.Helper()
		m := proto.CloneOf(stored)
		m.CurrentSpend, m.Status, m.ResetAt = &costv1.SpendSummary{TotalCostUsd: 0.5}, costv1.BudgetStatusType_BUDGET_STATUS_TYPE_WARNING, at(48)
		m.Period.PeriodStart, m.Period.PeriodEnd = at(24), at(48)
		change(m)
		resp, err := b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{Budget: m})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetBudget()
	}
	if got := send(func(*costv1.Budget) {}); !cmp.Equal(got, stored, protocmp.Transform()) {
		t.Errorf("sent back as it was: %v, want %v", got, stored)
	}
	got := send(func(m *costv1.Budget) {
		m.Period = &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_CUSTOM, DurationSeconds: 7200, PeriodStart: at(1), PeriodEnd: at(3)}
	})
	if p := got.GetPeriod(); p.GetPeriodStart().GetSeconds() != 3600 || p.GetPeriodEnd() != nil {
		t.Errorf("a custom period: %v", p)
	}
}

func TestBudgetsAreListedByID(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var ids []string
	for i := range 5 {
		ids = append(ids, b.createBudget(b.all(), daily("d", float64(i+1))).GetBudgetId())
	}
	list := func(req *costv1.ListBudgetsRequest) []string {
		t.Helper()
		resp, err := b.cost.ListBudgets(b.all(), req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, one := range resp.GetBudgets() {
			got = append(got, one.GetBudgetId())
		}
		if req.GetPageToken() == "" && int(resp.GetTotalCount()) < len(got) {
			t.Errorf("%d in all, %d here", resp.GetTotalCount(), len(got))
		}
		return got
	}
	if got := list(&costv1.ListBudgetsRequest{BudgetIds: []string{ids[3], ids[1], uuid.NewString()}}); !slices.Equal(got, []string{ids[1], ids[3]}) {
		t.Errorf("two of them and one that is not there: %v", got)
	}
	if _, err := b.cost.ListBudgets(b.all(), &costv1.ListBudgetsRequest{BudgetIds: []string{"no id"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no id: %v", err)
	}
}
