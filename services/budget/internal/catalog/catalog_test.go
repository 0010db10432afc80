package catalog_test

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

var names = rapid.SampledFrom([]string{"", "a", "b", "c"})

// The index finds exactly the budgets that a look at every scope finds, each once.
func TestDrawsAreTheBudgetsWhoseScopeMatches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var in []*costv1.Budget
		for range rapid.IntRange(0, 30).Draw(t, "budgets") {
			in = append(in, &costv1.Budget{BudgetId: uuid.NewString(), Scope: &costv1.BudgetScope{
				Team: names.Draw(t, "team"), AgentId: names.Draw(t, "agent"), UserId: names.Draw(t, "user"), WorkflowId: names.Draw(t, "workflow"),
				ApiKeyId: names.Draw(t, "key"), Model: names.Draw(t, "model"), EnvelopeId: names.Draw(t, "envelope"),
			}})
		}
		cat, err := catalog.Load(uuid.New(), 1, &configv1.BudgetBundle{Budgets: in})
		if err != nil {
			t.Fatal(err)
		}
		s := catalog.Subject{
			Team: names.Draw(t, "team"), AgentID: names.Draw(t, "agent"), UserID: names.Draw(t, "user"), WorkflowID: names.Draw(t, "workflow"),
			APIKeyID: names.Draw(t, "key"), Model: names.Draw(t, "model"), EnvelopeID: names.Draw(t, "envelope"),
			Ancestors: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3).Draw(t, "ancestors"),
		}
		explicit := ""
		if len(in) > 0 && rapid.Bool().Draw(t, "named") {
			explicit = rapid.SampledFrom(in).Draw(t, "explicit").GetBudgetId()
		}
		got, err := cat.Draws(&s, explicit, nil)
		if err != nil {
			t.Fatal(err)
		}
		field := func(want, is string) bool { return want == "" || want == is }
		var want []string
		for _, b := range in {
			c := b.GetScope()
			envelope := field(c.GetEnvelopeId(), s.EnvelopeID) || slices.Contains(s.Ancestors, c.GetEnvelopeId())
			if b.GetBudgetId() == explicit || field(c.GetTeam(), s.Team) && field(c.GetAgentId(), s.AgentID) && field(c.GetUserId(), s.UserID) &&
				field(c.GetWorkflowId(), s.WorkflowID) && field(c.GetApiKeyId(), s.APIKeyID) && field(c.GetModel(), s.Model) && envelope {
				want = append(want, b.GetBudgetId())
			}
		}
		var ids []string
		for _, b := range got {
			ids = append(ids, b.ID)
		}
		slices.Sort(ids)
		slices.Sort(want)
		if !slices.Equal(ids, want) {
			t.Fatalf("%v, want %v", ids, want)
		}
	})
}

func TestAnUnknownBudgetIsNotFound(t *testing.T) {
	t.Parallel()
	_, err := catalog.Empty(uuid.New()).Draws(&catalog.Subject{}, "nobody's", nil)
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}

func TestABundleIsLoadedAsPublished(t *testing.T) {
	t.Parallel()
	cat, err := catalog.Load(uuid.New(), 7, &configv1.BudgetBundle{
		Settings: &configv1.TenantSettings{TimeZone: "Europe/Berlin"},
		Budgets: []*costv1.Budget{{
			BudgetId: "b", WorkflowId: "w", Mode: costv1.BudgetMode_BUDGET_MODE_SOFT,
			Limits:     &costv1.BudgetLimits{MaxCostUsd: 0.1, MaxTokens: 1, MaxInputTokens: 2, MaxOutputTokens: 3, MaxLlmCalls: 4, MaxToolCalls: 5, MaxExecutionTimeSeconds: 6},
			Period:     &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY},
			Thresholds: []*costv1.NotificationThreshold{{ThresholdPercent: 90}, {ThresholdPercent: 33.33}, {ThresholdPercent: 90}},
		}, {
			BudgetId: "c", TimeZone: "Asia/Kolkata", Suspended: true,
			Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := cat.Budget("b")
	if b.Limits != (amount.Amounts{100_000_000, 1, 2, 3, 4, 5, 6}) || b.Mode != catalog.Soft || b.Scope.WorkflowID != "w" {
		t.Errorf("%+v", b)
	}
	if !slices.Equal(b.Thresholds, []int32{3333, 9000, 10000}) {
		t.Errorf("thresholds %v", b.Thresholds)
	}
	at := time.Date(2026, 1, 1, 23, 30, 0, 0, time.UTC)
	if w := b.Window(at); w.Start != time.Date(2026, 1, 1, 23, 0, 0, 0, time.UTC) {
		t.Errorf("in Berlin the day began at %v", w.Start)
	}
	c := cat.Budget("c")
	if w := c.Window(at); w.Start != time.Date(2026, 1, 1, 18, 30, 0, 0, time.UTC) || !c.Suspended || c.Mode != catalog.Hard {
		t.Errorf("in India the day began at %v; %+v", w.Start, c)
	}
}

func TestABundleThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	custom := costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_CUSTOM
	for name, b := range map[string]*configv1.BudgetBundle{
		"tenant's zone":  {Settings: &configv1.TenantSettings{TimeZone: "Mars/Olympus"}},
		"local zone":     {Settings: &configv1.TenantSettings{TimeZone: "Local"}},
		"budget's zone":  {Budgets: []*costv1.Budget{{BudgetId: "b", TimeZone: "x"}}},
		"no id":          {Budgets: []*costv1.Budget{{}}},
		"twice":          {Budgets: []*costv1.Budget{{BudgetId: "b"}, {BudgetId: "b"}}},
		"negative":       {Budgets: []*costv1.Budget{{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxTokens: -1}}}},
		"endless custom": {Budgets: []*costv1.Budget{{BudgetId: "b", Period: &costv1.BudgetPeriod{PeriodType: custom}}}},
		"unknown period": {Budgets: []*costv1.Budget{{BudgetId: "b", Period: &costv1.BudgetPeriod{PeriodType: 99}}}},
		"too much money": {Budgets: []*costv1.Budget{{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1e300}}}},
	} {
		if _, err := catalog.Load(uuid.New(), 1, b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
