package app_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// How far budgets are used is told by name: what is spent and what is held, of the
// unit that is closest to its limit, of those that cover the action.
func TestStandingsAreToldByName(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	year := &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_YEARLY}
	budget := func(name, agent string, limits *costv1.BudgetLimits) *costv1.Budget {
		return &costv1.Budget{BudgetId: uuid.NewString(), Name: name, Scope: &costv1.BudgetScope{AgentId: agent}, Limits: limits, Period: year}
	}
	publish(t, d, tenant,
		budget("all", "", &costv1.BudgetLimits{MaxCostUsd: 10, MaxLlmCalls: 4}), budget("calls", "", &costv1.BudgetLimits{MaxLlmCalls: 8}),
		budget("own", "one", &costv1.BudgetLimits{MaxCostUsd: 4}), budget("own", "two", &costv1.BudgetLimits{MaxCostUsd: 8}),
		budget("alone", "two", &costv1.BudgetLimits{MaxCostUsd: 8}), budget("", "", &costv1.BudgetLimits{MaxCostUsd: 100}),
		budget("twice", "", &costv1.BudgetLimits{MaxCostUsd: 100}), budget("twice", "one", &costv1.BudgetLimits{MaxCostUsd: 4}),
	)
	publish(t, d, other, budget("all", "", &costv1.BudgetLimits{MaxCostUsd: 1}))
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	standings := func(agent string, names ...string) string {
		t.Helper()
		resp, err := client.GetStandings(ctx, &budgetv1.GetStandingsRequest{Names: names, Subject: &budgetv1.Subject{AgentId: agent}})
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, s := range resp.GetStandings() {
			if text += s.GetName(); s.UsedPercent != nil {
				text += fmt.Sprintf(" %g%%", s.GetUsedPercent())
			}
			if s.RemainingUsd != nil {
				text += fmt.Sprintf(" $%g", s.GetRemainingUsd())
			}
			text += ", "
		}
		return text
	}
	told := func(agent, want string, names ...string) {
		t.Helper()
		if got := standings(agent, names...); got != want {
			t.Errorf("%q for %q: %q, want %q", names, agent, got, want)
		}
	}
	hold := func(agent string, usd int64) string {
		t.Helper()
		id := uuid.NewString()
		a, err := client.Reserve(ctx, &budgetv1.ReserveRequest{
			ReservationId: id, Subject: &budgetv1.Subject{AgentId: agent}, Amounts: &governancev1.Amounts{CostNano: usd * 1e9, LlmCalls: 1},
		})
		if err != nil || !a.GetGranted() {
			t.Fatalf("%v, %v", a, err)
		}
		return id
	}

	told("one", "all 0% $10, calls 0%, own 0% $4, ", "all", "calls", "own")
	first := hold("one", 2)
	told("one", "all 25% $8, calls 12.5%, own 50% $2, ", "all", "calls", "own") // calls are closer than money
	usd := 1.0
	if _, err := client.Settle(ctx, &budgetv1.SettleRequest{ReservationId: first, IdempotencyKey: "k", Usage: &governancev1.Usage{CostUsd: &usd}}); err != nil {
		t.Fatal(err)
	}
	told("one", "all 25% $9, own 25% $3, ", "all", "own", "all")
	hold("two", 6)
	told("one", "all 70% $3, own 25% $3, alone 75% $2, ", "all", "own", "alone", "nobody's", "")
	told("two", "own 75% $2, ", "own")
	told("three", "all 70% $3, ", "all", "own") // which of them is not said
	told("one", "twice 25% $3, ", "twice")
	told("two", "twice 7% $93, ", "twice")

	resp, err := client.GetStandings(as(t.Context(), other), &budgetv1.GetStandingsRequest{Names: []string{"all", "own"}})
	if err != nil || len(resp.GetStandings()) != 1 || resp.GetStandings()[0].GetUsedPercent() != 0 {
		t.Errorf("another tenant hears %v, %v", resp, err)
	}
	for name, req := range map[string]*budgetv1.GetStandingsRequest{"no names": {}, "a zero byte": {Names: []string{"x"}, Subject: &budgetv1.Subject{Team: "a\x00"}}} {
		if _, err := client.GetStandings(ctx, req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
