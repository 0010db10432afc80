package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/spend"
)

// GetBudgetStatus implements costv1.CostServiceServer.
func (c *Costs) GetBudgetStatus(ctx context.Context, req *costv1.GetBudgetStatusRequest) (*costv1.GetBudgetStatusResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	b, w, now, err := c.accounts.Status(ctx, who.Tenant, req.GetBudgetId())
	if err != nil {
		return nil, err
	}
	models, err := c.accounts.WindowModels(ctx, w)
	if err != nil {
		return nil, err
	}
	out := budgetStatus(b, w, now)
	out.CurrentSpend.ModelCosts = modelCosts(models)
	return &costv1.GetBudgetStatusResponse{Status: out}, nil
}

func budgetStatus(b *catalog.Budget, w *ledger.Window, now time.Time) *costv1.BudgetStatus {
	left := func(u amount.Unit) int64 { return max(w.Limit[u]-w.Spent[u]-w.Held[u], 0) }
	percent := func(u amount.Unit) float32 {
		if w.Limit[u] == 0 {
			return 0
		}
		return float32(100 * float64(w.Spent[u]) / float64(w.Limit[u]))
	}
	out := &costv1.BudgetStatus{
		BudgetId:             b.ID,
		Status:               statuses[w.Status()],
		TokenUsagePercent:    max(percent(amount.TotalTokens), percent(amount.InputTokens), percent(amount.OutputTokens)),
		CostUsagePercent:     percent(amount.Cost),
		LlmCallUsagePercent:  percent(amount.LLMCalls),
		ToolCallUsagePercent: percent(amount.ToolCalls),
		Remaining:            limits(left),
		Limits:               limits(func(u amount.Unit) int64 { return w.Limit[u] }),
		Held:                 limits(func(u amount.Unit) int64 { return w.Held[u] }),
		CurrentSpend:         currentSpend(w),
		UpdatedAt:            timestamppb.New(now),
	}
	if o := w.Override(); o != nil {
		out.Override = o.Told
	}
	for _, bp := range b.Thresholds {
		if bp > w.ReachedBP {
			out.NextThreshold = &costv1.NotificationThreshold{ThresholdPercent: float32(bp) / 100}
			break
		}
	}
	return out
}

func limits(of func(amount.Unit) int64) *costv1.BudgetLimits {
	return &costv1.BudgetLimits{
		MaxTokens: of(amount.TotalTokens), MaxInputTokens: of(amount.InputTokens), MaxOutputTokens: of(amount.OutputTokens),
		MaxCostUsd: money.Nano(of(amount.Cost)).USD(), MaxLlmCalls: int32of(of(amount.LLMCalls)), MaxToolCalls: int32of(of(amount.ToolCalls)),
		MaxExecutionTimeSeconds: of(amount.Seconds),
	}
}

// currentSpend is what a window was charged, without the models.
func currentSpend(w *ledger.Window) *costv1.SpendSummary {
	out := summary(spend.Line{Amounts: w.Spent})
	out.PeriodStart = timestamppb.New(w.StartTime())
	out.PeriodEnd = ends(w)
	return out
}

// ends is when a window ends, nil if never.
func ends(w *ledger.Window) *timestamppb.Timestamp {
	if !w.End.Before(calendar.Never) {
		return nil
	}
	return timestamppb.New(w.End)
}

var statuses = map[ledger.Status]costv1.BudgetStatusType{
	ledger.OK:        costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK,
	ledger.Warning:   costv1.BudgetStatusType_BUDGET_STATUS_TYPE_WARNING,
	ledger.Critical:  costv1.BudgetStatusType_BUDGET_STATUS_TYPE_CRITICAL,
	ledger.Exceeded:  costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED,
	ledger.Suspended: costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED,
}

// ListBudgets implements costv1.CostServiceServer for what the ledger knows of
// budgets: their standing, and which of them have a status. The rest of each is
// the control plane's. By id, so that pages stay as they are while it is spent.
func (c *Costs) ListBudgets(ctx context.Context, req *costv1.ListBudgetsRequest) (*costv1.ListBudgetsResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	filters := append([]string{who.Tenant.String(), req.GetWorkflowId(), req.GetStatus().String()}, req.GetBudgetIds()...)
	p, err := readPage(req.GetPageSize(), req.GetPageToken(), "budgets", filters...)
	if err != nil {
		return nil, err
	}
	cat, now, err := c.accounts.Fresh(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	budgets := selected(cat, req)
	var windows []*ledger.Window
	if req.GetStatus() != costv1.BudgetStatusType_BUDGET_STATUS_TYPE_UNSPECIFIED {
		if windows, err = c.accounts.Standings(ctx, cat, now, budgets); err != nil {
			return nil, err
		}
		budgets, windows = standing(budgets, windows, req.GetStatus())
	}
	out := &costv1.ListBudgetsResponse{TotalCount: int32of(int64(len(budgets)))}
	from, _ := slices.BinarySearchFunc(budgets, p.after, func(b *catalog.Budget, after string) int {
		if b.ID <= after {
			return -1
		}
		return 1
	})
	until := min(from+p.size, len(budgets))
	if until < len(budgets) {
		out.NextPageToken = p.next(budgets[until-1].ID)
	}
	budgets = budgets[from:until]
	if windows == nil {
		windows, err = c.accounts.Standings(ctx, cat, now, budgets)
	} else {
		windows = windows[from:until]
	}
	if err != nil {
		return nil, err
	}
	notices, err := c.accounts.Notices(ctx, who.Tenant, windows)
	if err != nil {
		return nil, err
	}
	for i, w := range windows {
		out.Budgets = append(out.Budgets, budgetOf(budgets[i], w, notices[w.WindowKey]))
	}
	return out, c.withModels(ctx, out.GetBudgets(), windows, req)
}

// withModels adds what a single budget was charged by model.
func (c *Costs) withModels(ctx context.Context, budgets []*costv1.Budget, windows []*ledger.Window, req *costv1.ListBudgetsRequest) error {
	if len(budgets) != 1 || len(req.GetBudgetIds()) != 1 {
		return nil
	}
	models, err := c.accounts.WindowModels(ctx, windows[0])
	budgets[0].CurrentSpend.ModelCosts = modelCosts(models)
	return err
}

// selected are the budgets that a request names, by id.
func selected(cat *catalog.Catalog, req *costv1.ListBudgetsRequest) []*catalog.Budget {
	var out []*catalog.Budget
	if ids := req.GetBudgetIds(); len(ids) > 0 {
		for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
			if b := cat.Budget(id); b != nil {
				out = append(out, b)
			}
		}
	} else {
		out = slices.SortedFunc(slices.Values(cat.Budgets()), func(a, b *catalog.Budget) int { return strings.Compare(a.ID, b.ID) })
	}
	if workflow := req.GetWorkflowId(); workflow != "" {
		out = slices.DeleteFunc(out, func(b *catalog.Budget) bool { return b.Scope.WorkflowID != workflow })
	}
	return out
}

// standing keeps those of a status.
func standing(budgets []*catalog.Budget, windows []*ledger.Window, status costv1.BudgetStatusType) (b []*catalog.Budget, w []*ledger.Window) {
	w = []*ledger.Window{}
	for i := range budgets {
		if statuses[windows[i].Status()] == status {
			b, w = append(b, budgets[i]), append(w, windows[i])
		}
	}
	return b, w
}

func budgetOf(b *catalog.Budget, w *ledger.Window, notified map[int32]time.Time) *costv1.Budget {
	out := &costv1.Budget{
		BudgetId: b.ID, TenantId: w.Tenant.String(), CurrentSpend: currentSpend(w), Status: statuses[w.Status()], ResetAt: ends(w),
		Period: &costv1.BudgetPeriod{PeriodEnd: ends(w)},
	}
	if out.ResetAt != nil {
		out.Period.PeriodStart = out.CurrentSpend.PeriodStart
	}
	for _, bp := range b.Thresholds {
		t := &costv1.NotificationThreshold{ThresholdPercent: float32(bp) / 100, Notified: bp <= w.ReachedBP}
		if at, ok := notified[bp]; ok && t.Notified {
			t.NotifiedAt = timestamppb.New(at)
		}
		out.Thresholds = append(out.Thresholds, t)
	}
	return out
}
