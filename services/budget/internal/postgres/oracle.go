package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/oracle"
)

// Series returns what a budget was charged since from, hour by hour.
func (s *Store) Series(ctx context.Context, tenant uuid.UUID, budget string, from time.Time) (hours []oracle.Used, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).BudgetSeries(ctx, budgetdb.BudgetSeriesParams{TenantID: tenant, BudgetID: budget, FromHour: from})
		for _, r := range rows {
			hours = append(hours, oracle.Used{Start: r.Hour.UTC(), Amounts: amount.Amounts{
				r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds}})
		}
		return err
	})
	return hours, unreadable("read the hours of a budget", err)
}

// How many rows of a workflow's runs are looked at, the latest first: of one that
// is asked for, and of each of many.
const (
	sample     = 2000
	sampleEach = 200
)

// RunsOf implements oracle.Source.
func (s *Store) RunsOf(ctx context.Context, tenant uuid.UUID, workflow string, from time.Time) (m oracle.Model, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		r, err := q.RunsOf(ctx, budgetdb.RunsOfParams{TenantID: tenant, WorkflowID: workflow, FromTime: from, Sample: sample})
		if err != nil {
			return err
		}
		now, err := q.Clock(ctx)
		m = runs(budgetdb.RunsRow{
			WorkflowID: workflow, Runs: r.Runs, MeanNano: r.MeanNano, DeviationNano: r.DeviationNano, MeanTokens: r.MeanTokens, Since: r.Since,
		}, now)
		return err
	})
	return m, unreadable("read the runs of a workflow", err)
}

// RunsAfter implements oracle.Source.
func (s *Store) RunsAfter(ctx context.Context, tenant uuid.UUID, after string, from time.Time, limit int) (models []oracle.Model, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		rows, err := q.Runs(ctx, budgetdb.RunsParams{TenantID: tenant, After: after, FromTime: from, Sample: sampleEach, Lim: int32(limit)})
		if err != nil {
			return err
		}
		now, err := q.Clock(ctx)
		for _, r := range rows {
			models = append(models, runs(r, now))
		}
		return err
	})
	return models, unreadable("read the runs of workflows", err)
}

// runs is a row as a model. The rate is that since the first run looked at, and
// of an hour at least.
func runs(r budgetdb.RunsRow, now time.Time) oracle.Model {
	return oracle.Model{
		Workflow: r.WorkflowID, Runs: r.Runs, Mean: r.MeanNano, Deviation: r.DeviationNano, Tokens: r.MeanTokens,
		PerHour: float64(r.Runs) / max(1, now.Sub(r.Since).Hours()),
	}
}
