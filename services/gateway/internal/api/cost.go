package api

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

// Cost is fulcrum.cost.v1.CostService: budgets are the control plane's, what is
// spent is the budget service's, executions are counted by the event processor.
type Cost struct {
	costv1.UnimplementedCostServiceServer
	budgets    costv1.CostServiceClient
	spent      costv1.CostServiceClient
	executions costv1.CostServiceClient
}

// NewCost returns the service over its owners.
func NewCost(controlPlane, budget, eventProcessor grpc.ClientConnInterface) *Cost {
	return &Cost{
		budgets:    costv1.NewCostServiceClient(controlPlane),
		spent:      costv1.NewCostServiceClient(budget),
		executions: costv1.NewCostServiceClient(eventProcessor),
	}
}

// brief is how long an answer waits for what only completes it.
const brief = 500 * time.Millisecond

// CreateBudget implements CostService.
func (s *Cost) CreateBudget(ctx context.Context, req *costv1.CreateBudgetRequest) (*costv1.CreateBudgetResponse, error) {
	resp, err := s.budgets.CreateBudget(ctx, req)
	if err == nil {
		s.stand(ctx, resp.GetBudget())
	}
	return resp, err
}

// GetBudget implements CostService.
func (s *Cost) GetBudget(ctx context.Context, req *costv1.GetBudgetRequest) (*costv1.GetBudgetResponse, error) {
	resp, err := s.budgets.GetBudget(ctx, req)
	if err == nil {
		s.stand(ctx, resp.GetBudget())
	}
	return resp, err
}

// UpdateBudget implements CostService.
func (s *Cost) UpdateBudget(ctx context.Context, req *costv1.UpdateBudgetRequest) (*costv1.UpdateBudgetResponse, error) {
	resp, err := s.budgets.UpdateBudget(ctx, req)
	if err == nil {
		s.stand(ctx, resp.GetBudget())
	}
	return resp, err
}

// DeleteBudget implements CostService.
func (s *Cost) DeleteBudget(ctx context.Context, req *costv1.DeleteBudgetRequest) (*costv1.DeleteBudgetResponse, error) {
	return s.budgets.DeleteBudget(ctx, req)
}

// ListBudgets implements CostService. Which budgets have a status that follows
// from spending, the ledger knows; without it such a list fails.
func (s *Cost) ListBudgets(ctx context.Context, req *costv1.ListBudgetsRequest) (*costv1.ListBudgetsResponse, error) {
	switch req.GetStatus() {
	case costv1.BudgetStatusType_BUDGET_STATUS_TYPE_UNSPECIFIED, costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED:
		resp, err := s.budgets.ListBudgets(ctx, req)
		if err == nil {
			s.stand(ctx, resp.GetBudgets()...)
		}
		return resp, err
	}
	found, err := s.spent.ListBudgets(ctx, req)
	if err != nil || len(found.GetBudgets()) == 0 {
		return found, err
	}
	written, err := s.budgets.ListBudgets(ctx, &costv1.ListBudgetsRequest{BudgetIds: ids(found.GetBudgets()), PageSize: int32(len(found.GetBudgets()))})
	if err != nil {
		return nil, err
	}
	complete(written.GetBudgets(), found.GetBudgets())
	written.NextPageToken, written.TotalCount = found.GetNextPageToken(), found.GetTotalCount()
	return written, nil
}

// stand adds to budgets what is spent of them, if the ledger answers in time.
func (s *Cost) stand(ctx context.Context, budgets ...*costv1.Budget) {
	if len(budgets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, brief)
	defer cancel()
	now, err := s.spent.ListBudgets(ctx, &costv1.ListBudgetsRequest{BudgetIds: ids(budgets), PageSize: int32(len(budgets))})
	if err == nil {
		complete(budgets, now.GetBudgets())
	}
}

func ids(budgets []*costv1.Budget) []string {
	out := make([]string, len(budgets))
	for i, b := range budgets {
		out[i] = b.GetBudgetId()
	}
	return out
}

// complete adds to budgets, as they were written, how each of them stands.
func complete(budgets, standing []*costv1.Budget) {
	byID := make(map[string]*costv1.Budget, len(standing))
	for _, b := range standing {
		byID[b.GetBudgetId()] = b
	}
	for _, b := range budgets {
		now := byID[b.GetBudgetId()]
		if now == nil {
			continue // the ledger has not heard of it yet
		}
		b.CurrentSpend, b.Status, b.ResetAt = now.GetCurrentSpend(), now.GetStatus(), now.GetResetAt()
		if p := b.GetPeriod(); p != nil {
			p.PeriodEnd = now.GetPeriod().GetPeriodEnd()
			if p.GetPeriodStart() == nil {
				p.PeriodStart = now.GetPeriod().GetPeriodStart()
			}
		}
		if len(b.GetThresholds()) == 0 {
			b.Thresholds = now.GetThresholds()
			continue
		}
		for _, t := range b.GetThresholds() {
			for _, n := range now.GetThresholds() {
				if n.GetThresholdPercent() == t.GetThresholdPercent() {
					t.Notified, t.NotifiedAt = n.GetNotified(), n.GetNotifiedAt()
				}
			}
		}
	}
}

// GetCostSummary implements CostService.
func (s *Cost) GetCostSummary(ctx context.Context, req *costv1.GetCostSummaryRequest) (*costv1.GetCostSummaryResponse, error) {
	return s.spent.GetCostSummary(ctx, req)
}

// GetSpendSummary implements CostService. Executions are added if the event
// processor answers in time: for the hours that the ledger added up.
func (s *Cost) GetSpendSummary(ctx context.Context, req *costv1.GetSpendSummaryRequest) (*costv1.GetSpendSummaryResponse, error) {
	resp, err := s.spent.GetSpendSummary(ctx, req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, brief)
	defer cancel()
	counted, err := s.executions.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{
		WorkflowId: req.GetWorkflowId(), GroupBy: req.GetGroupBy(), TimeZone: resp.GetTimeZone(),
		StartTime: resp.GetSummary().GetPeriodStart(), EndTime: resp.GetSummary().GetPeriodEnd(),
	})
	if err == nil {
		count(resp, counted)
	}
	return resp, nil
}

// count adds executions to what was spent, group by group. A group that spent
// nothing is one, too.
func count(spent, counted *costv1.GetSpendSummaryResponse) {
	executed(spent.GetSummary(), counted.GetSummary())
	byKey := make(map[string]*costv1.GroupedSpendSummary, len(spent.GetGroupedSummaries()))
	for _, g := range spent.GetGroupedSummaries() {
		byKey[g.GetGroupKey()] = g
	}
	for _, g := range counted.GetGroupedSummaries() {
		of := byKey[g.GetGroupKey()]
		if of == nil {
			spent.GroupedSummaries = append(spent.GroupedSummaries, g)
			continue
		}
		executed(of.GetSummary(), g.GetSummary())
	}
	slices.SortFunc(spent.GroupedSummaries, func(a, b *costv1.GroupedSpendSummary) int {
		return cmp.Compare(a.GetGroupKey(), b.GetGroupKey())
	})
}

func executed(to, from *costv1.SpendSummary) {
	if to == nil {
		return
	}
	to.TotalExecutions, to.CompletedExecutions = from.GetTotalExecutions(), from.GetCompletedExecutions()
	to.FailedExecutions, to.TerminatedExecutions = from.GetFailedExecutions(), from.GetTerminatedExecutions()
	if n := int64(to.GetTotalExecutions()); n > 0 {
		to.AverageExecutionTimeSeconds = to.GetTotalExecutionTimeSeconds() / n
	}
}

// CreateBudgetOverride implements CostService.
func (s *Cost) CreateBudgetOverride(ctx context.Context, req *costv1.CreateBudgetOverrideRequest) (*costv1.CreateBudgetOverrideResponse, error) {
	return s.budgets.CreateBudgetOverride(ctx, req)
}

// ListBudgetOverrides implements CostService.
func (s *Cost) ListBudgetOverrides(ctx context.Context, req *costv1.ListBudgetOverridesRequest) (*costv1.ListBudgetOverridesResponse, error) {
	return s.budgets.ListBudgetOverrides(ctx, req)
}

// RevokeBudgetOverride implements CostService.
func (s *Cost) RevokeBudgetOverride(ctx context.Context, req *costv1.RevokeBudgetOverrideRequest) (*costv1.RevokeBudgetOverrideResponse, error) {
	return s.budgets.RevokeBudgetOverride(ctx, req)
}

// GetBudgetStatus implements CostService.
func (s *Cost) GetBudgetStatus(ctx context.Context, req *costv1.GetBudgetStatusRequest) (*costv1.GetBudgetStatusResponse, error) {
	return s.spent.GetBudgetStatus(ctx, req)
}

// PredictCost implements CostService.
func (s *Cost) PredictCost(ctx context.Context, req *costv1.PredictCostRequest) (*costv1.PredictCostResponse, error) {
	return s.spent.PredictCost(ctx, req)
}
