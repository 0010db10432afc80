package app_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

// A budget is the control plane's, how it stands the ledger's: callers see one.
func TestBudgetsComeWithHowTheyStand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	client := costv1.NewCostServiceClient(g.conn)
	ctx := as(t, w.key(w.tenant, "cost:read"))

	check := func(b *costv1.Budget, id string, status costv1.BudgetStatusType) {
		t.Helper()
		if b.GetBudgetId() != id || b.GetName() != "a budget" || b.GetStatus() != status || b.GetCurrentSpend().GetTotalCostUsd() != 1.5 ||
			b.GetResetAt() == nil || b.GetPeriod().GetPeriodStart() == nil || b.GetPeriod().GetPeriodEnd() == nil ||
			len(b.GetThresholds()) != 1 || b.GetThresholds()[0].GetNotified() != (id == spentBudget) {
			t.Errorf("budget %v", b)
		}
	}
	const ok, exceeded = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK, costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED
	got, err := client.GetBudget(ctx, &costv1.GetBudgetRequest{BudgetId: okBudget})
	if err != nil {
		t.Fatal(err)
	}
	check(got.GetBudget(), okBudget, ok)
	list, err := client.ListBudgets(ctx, &costv1.ListBudgetsRequest{})
	if err != nil || len(list.GetBudgets()) != 2 || list.GetTotalCount() != 2 || list.GetNextPageToken() != "" {
		t.Fatalf("all budgets: %v, %v", list, err)
	}
	check(list.GetBudgets()[0], okBudget, ok)
	check(list.GetBudgets()[1], spentBudget, exceeded)
	list, err = client.ListBudgets(ctx, &costv1.ListBudgetsRequest{Status: exceeded})
	if err != nil || len(list.GetBudgets()) != 1 || list.GetTotalCount() != 7 || list.GetNextPageToken() != "more" {
		t.Fatalf("those exceeded: %v, %v", list, err)
	}
	check(list.GetBudgets()[0], spentBudget, exceeded)
	list, err = client.ListBudgets(ctx, &costv1.ListBudgetsRequest{Status: costv1.BudgetStatusType_BUDGET_STATUS_TYPE_CRITICAL})
	if err != nil || len(list.GetBudgets()) != 0 {
		t.Errorf("none is critical: %v, %v", list, err)
	}
	for name, err := range map[string]error{
		"GetBudget": func() error {
			_, err := client.GetBudget(as(t, w.key(w.tenant, "event:read")), &costv1.GetBudgetRequest{BudgetId: okBudget})
			return err
		}(),
		"GetSpendSummary": func() error {
			_, err := client.GetSpendSummary(as(t, w.key(w.tenant, "event:read")), &costv1.GetSpendSummaryRequest{})
			return err
		}(),
	} {
		if status.Code(plain(err)) != codes.PermissionDenied {
			t.Errorf("%s without the scope: %v", name, err)
		}
	}
}

// What was spent and how many executions there were come from two services.
func TestSpendingComesWithExecutions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	client := costv1.NewCostServiceClient(g.conn)
	ctx := as(t, w.key(w.tenant, "cost:read"))
	resp, err := client.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{WorkflowId: "w", GroupBy: costv1.SpendGroupBy_SPEND_GROUP_BY_TEAM})
	if err != nil {
		t.Fatal(err)
	}
	s := resp.GetSummary()
	if s.GetTotalCostUsd() != 3 || s.GetTotalExecutions() != 9 || s.GetCompletedExecutions() != 5 || s.GetFailedExecutions() != 1 ||
		s.GetTerminatedExecutions() != 2 || s.GetAverageExecutionTimeSeconds() != 10 {
		t.Errorf("sum %v", s)
	}
	groups := resp.GetGroupedSummaries()
	if len(groups) != 2 || groups[0].GetGroupKey() != "a" || groups[0].GetSummary().GetTotalExecutions() != 4 ||
		groups[1].GetSummary().GetTotalCostUsd() != 3 || groups[1].GetSummary().GetTotalExecutions() != 5 {
		t.Errorf("groups %v", groups)
	}
	// The counts are nice to have: without them the sums are there all the same.
	resp, err = client.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{WorkflowId: "another"})
	if err != nil || resp.GetSummary().GetTotalCostUsd() != 3 || resp.GetSummary().GetTotalExecutions() != 0 {
		t.Errorf("without executions: %v, %v", resp, err)
	}
}

func TestTheOracleIsPublic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "cost:read")
	for _, prefix := range []string{"/v1", "/api/v1"} {
		code, body := callHTTP(t, "POST", g.http+prefix+"/brain/oracle/predict-overrun", `{"budget_id":"`+okBudget+`"}`, "x-api-key", key)
		if code != 200 || !contains(body, `"overrun_probability":0.75`) {
			t.Errorf("predict: %d %s", code, body)
		}
		code, body = callHTTP(t, "GET", g.http+prefix+"/brain/oracle/models/"+w.tenant.String()+"/crawl", "", "x-api-key", key)
		if code != 200 || !contains(body, `"workflow_id":"crawl"`) {
			t.Errorf("model: %d %s", code, body)
		}
		if code, body = callHTTP(t, "GET", g.http+prefix+"/brain/oracle/models/"+okBudget+"/crawl", "", "x-api-key", key); code != 403 {
			t.Errorf("another tenant's model: %d %s", code, body)
		}
		if code, body = callHTTP(t, "POST", g.http+prefix+"/brain/oracle/predict-overrun", `{}`, "x-api-key", key); code != 400 {
			t.Errorf("no budget: %d %s", code, body)
		}
	}
}

func contains(body, part string) bool {
	return strings.Contains(strings.ReplaceAll(body, " ", ""), part)
}
