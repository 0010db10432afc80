package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/spend"
)

// hourKey is the key of a row of budget_hours, sizeKey of call_sizes.
type (
	hourKey struct {
		ledger.WindowKey
		hour  int64 // Unix seconds
		model string
	}
	sizeKey struct {
		ledger.WindowKey // tenant, workflow and day
		model            string
		cell             spend.Cell
	}
)

// learnedWrites add a batch's charges to what predictions are made from. They
// go out in the round trip of the other rollups.
func learnedWrites(list []ledger.Spend) []step {
	var steps []step
	if hours := hourParams(list); len(hours.TenantIds) > 0 {
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.AddBudgetHours(ctx, hours) })
	}
	if sizes := sizeParams(list); len(sizes.TenantIds) > 0 {
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.AddCallSizes(ctx, sizes) })
	}
	return steps
}

// hourParams are the hours of the budgets that were charged. The limits of an
// envelope end with it: nobody predicts them.
func hourParams(list []ledger.Spend) (arg budgetdb.AddBudgetHoursParams) {
	hours := make(map[hourKey]*sums)
	for _, c := range list {
		for _, w := range c.Windows {
			if !catalog.OfEnvelope(w.Budget) {
				at(hours, hourKey{w.WindowKey, c.Hour.Unix(), c.Model}).add(c)
			}
		}
	}
	var amounts columns
	for _, key := range sorted(hours, func(a, b hourKey) int {
		return cmp.Or(slices.Compare(a.Tenant[:], b.Tenant[:]), cmp.Compare(a.Budget, b.Budget), cmp.Compare(a.hour, b.hour),
			cmp.Compare(a.Start, b.Start), cmp.Compare(a.model, b.model))
	}) {
		arg.TenantIds = append(arg.TenantIds, key.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, key.Budget)
		arg.Hours = append(arg.Hours, time.Unix(key.hour, 0).UTC())
		arg.WindowStarts = append(arg.WindowStarts, key.StartTime())
		arg.Models = append(arg.Models, key.model)
		arg.Charges = append(arg.Charges, hours[key].charges)
		amounts.add(hours[key].amounts)
	}
	arg.CostNano = amounts[amount.Cost]
	arg.TotalTokens = amounts[amount.TotalTokens]
	arg.InputTokens = amounts[amount.InputTokens]
	arg.OutputTokens = amounts[amount.OutputTokens]
	arg.LlmCalls = amounts[amount.LLMCalls]
	arg.ToolCalls = amounts[amount.ToolCalls]
	arg.Seconds = amounts[amount.Seconds]
	return arg
}

// sizeParams are the sizes of the model calls whose usage was told. A failed
// call says nothing about what a call takes.
func sizeParams(list []ledger.Spend) (arg budgetdb.AddCallSizesParams) {
	sizes := make(map[sizeKey]*sums)
	for _, c := range list {
		calls := c.Charged[amount.LLMCalls]
		if !c.Told || c.Failed || c.Model == "" || calls <= 0 || c.Charged[amount.TotalTokens] == 0 {
			continue
		}
		y, m, d := c.Hour.UTC().Date()
		key := sizeKey{
			ledger.WindowKey{Tenant: c.Tenant, Budget: c.Subject.WorkflowID, Start: time.Date(y, m, d, 0, 0, 0, 0, time.UTC).UnixMicro()},
			c.Model, spend.CellOf(c.Charged[amount.InputTokens]/calls, c.Charged[amount.OutputTokens]/calls),
		}
		at(sizes, key).add(c)
	}
	for _, key := range sorted(sizes, func(a, b sizeKey) int {
		return cmp.Or(slices.Compare(a.Tenant[:], b.Tenant[:]), cmp.Compare(a.Budget, b.Budget), cmp.Compare(a.model, b.model),
			cmp.Compare(a.Start, b.Start), cmp.Compare(a.cell.Input, b.cell.Input), cmp.Compare(a.cell.Output, b.cell.Output))
	}) {
		sum := sizes[key].amounts
		arg.TenantIds = append(arg.TenantIds, key.Tenant)
		arg.WorkflowIds = append(arg.WorkflowIds, key.Budget)
		arg.Models = append(arg.Models, key.model)
		arg.Days = append(arg.Days, key.StartTime())
		arg.InputBuckets = append(arg.InputBuckets, key.cell.Input)
		arg.OutputBuckets = append(arg.OutputBuckets, key.cell.Output)
		arg.Calls = append(arg.Calls, sum[amount.LLMCalls])
		arg.InputTokens = append(arg.InputTokens, sum[amount.InputTokens])
		arg.OutputTokens = append(arg.OutputTokens, sum[amount.OutputTokens])
		arg.CostNano = append(arg.CostNano, sum[amount.Cost])
		arg.Seconds = append(arg.Seconds, sum[amount.Seconds])
	}
	return arg
}

// noticeWrites note when thresholds were announced: mostly there are none.
func noticeWrites(list []ledger.Event) []step {
	type key struct {
		ledger.WindowKey
		bp int32
	}
	latest := make(map[key]time.Time)
	for _, e := range list {
		if e.Threshold > 0 {
			latest[key{e.Window, e.Threshold}] = e.At
		}
	}
	if len(latest) == 0 {
		return nil
	}
	keys := make([]key, 0, len(latest))
	for k := range latest {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(compareKeys(a.WindowKey, b.WindowKey), cmp.Compare(a.bp, b.bp)) })
	var arg budgetdb.NoteThresholdsParams
	for _, k := range keys {
		arg.TenantIds = append(arg.TenantIds, k.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, k.Budget)
		arg.WindowStarts = append(arg.WindowStarts, k.StartTime())
		arg.ThresholdBps = append(arg.ThresholdBps, k.bp)
		arg.NotifiedAts = append(arg.NotifiedAts, latest[k])
	}
	return []step{func(ctx context.Context, q *budgetdb.Queries) error { return q.NoteThresholds(ctx, arg) }}
}
