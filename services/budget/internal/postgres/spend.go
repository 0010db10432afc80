package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/spend"
)

// EnvelopeCosts returns what an envelope was charged, by model.
func (s *Store) EnvelopeCosts(ctx context.Context, tenant uuid.UUID, envelope string) (lines []spend.Line, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).EnvelopeCosts(ctx, budgetdb.EnvelopeCostsParams{TenantID: tenant, EnvelopeID: envelope})
		for _, r := range rows {
			lines = append(lines, spend.Line{
				Model: r.Model, Charges: r.Charges, Failures: r.Failures,
				Amounts: amount.Amounts{r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds},
			})
		}
		return err
	})
	return lines, unreadable("read the costs of an envelope", err)
}

// Spend returns what was charged, a line for each group and model.
func (s *Store) Spend(ctx context.Context, q spend.Query) (lines []spend.Line, err error) {
	arg := budgetdb.SpendByGroupParams{
		GroupBy: q.GroupBy, Zone: q.Zone.String(), TenantID: q.Tenant, FromHour: q.From, UntilHour: q.Until, WorkflowID: q.Workflow,
	}
	err = s.db.Read(ctx, q.Tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).SpendByGroup(ctx, arg)
		for _, r := range rows {
			lines = append(lines, spend.Line{
				Group: r.GroupKey, Model: r.Model, Charges: r.Charges, Failures: r.Failures,
				Amounts: amount.Amounts{r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds},
			})
		}
		return err
	})
	return lines, unreadable("read spending", err)
}

// WindowModels returns what a window was charged, by model.
func (s *Store) WindowModels(ctx context.Context, w *ledger.Window) (lines []spend.Line, err error) {
	arg := budgetdb.WindowModelsParams{TenantID: w.Tenant, BudgetID: w.Budget, FromHour: w.StartTime().Add(-time.Hour), WindowStart: w.StartTime()}
	err = s.db.Read(ctx, w.Tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).WindowModels(ctx, arg)
		for _, r := range rows {
			lines = append(lines, spend.Line{
				Model: r.Model, Charges: r.Charges,
				Amounts: amount.Amounts{r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds},
			})
		}
		return err
	})
	return lines, unreadable("read the models of a window", err)
}

// Notices returns when thresholds of windows, all of one tenant, were announced,
// by hundredths of a percent.
func (s *Store) Notices(ctx context.Context, tenant uuid.UUID, windows []*ledger.Window) (map[ledger.WindowKey]map[int32]time.Time, error) {
	arg := budgetdb.NoticesParams{TenantID: tenant}
	for _, w := range windows {
		if w.ReachedBP > 0 {
			arg.BudgetIds, arg.WindowStarts = append(arg.BudgetIds, w.Budget), append(arg.WindowStarts, w.StartTime())
		}
	}
	notices := make(map[ledger.WindowKey]map[int32]time.Time)
	if len(arg.BudgetIds) == 0 {
		return notices, nil
	}
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).Notices(ctx, arg)
		for _, r := range rows {
			key := windowKey(tenant, r.BudgetID, r.WindowStart)
			if notices[key] == nil {
				notices[key] = make(map[int32]time.Time)
			}
			notices[key][r.ThresholdBp] = r.NotifiedAt.UTC()
		}
		return err
	})
	return notices, unreadable("read the notices of budgets", err)
}

// CallSizes implements spend.Past.
func (s *Store) CallSizes(ctx context.Context, tenant uuid.UUID, workflow string, models []string, from time.Time) (map[string][]spend.Size, error) {
	if models == nil {
		models = []string{} // a null array would match nothing
	}
	arg := budgetdb.CallSizesParams{TenantID: tenant, FromDay: from.UTC().Truncate(24 * time.Hour), WorkflowID: workflow, Models: models}
	sizes := make(map[string][]spend.Size)
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).CallSizes(ctx, arg)
		for _, r := range rows {
			sizes[r.Model] = append(sizes[r.Model], spend.Size{
				Cell: spend.Cell{Input: r.InputBucket, Output: r.OutputBucket}, Calls: r.Calls,
				Input: r.InputTokens, Output: r.OutputTokens, Seconds: r.Seconds, CostNano: r.CostNano,
			})
		}
		return err
	})
	return sizes, unreadable("read the sizes of calls", err)
}
