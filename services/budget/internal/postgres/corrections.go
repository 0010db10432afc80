package postgres

import (
	"context"
	"fmt"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func (b *batch) findCorrections(ctx context.Context, q *budgetdb.Queries) error {
	rows, err := q.FindCorrections(ctx, budgetdb.FindCorrectionsParams{TenantIds: b.corrects.tenants, Ids: b.corrects.ids})
	for _, row := range rows {
		ref := ledger.Ref{Tenant: row.TenantID, ID: row.ReservationID}
		if known := b.books.Corrections[ref]; len(known) > 0 && known[len(known)-1].Number >= row.Number {
			continue // two ops of the batch asked for the same charge
		}
		b.books.Corrections[ref] = append(b.books.Corrections[ref], &ledger.Correction{
			Ref: ref, Number: row.Number, Rerate: row.RerateID, Old: money.Nano(row.OldNano), New: money.Nano(row.NewNano), PriceVersion: row.PriceVersion,
		})
	}
	return err
}

// correctionWrites insert corrections and carry their differences into the rows
// of the summaries that the charges went into.
func (b *batch) correctionWrites(list []*ledger.Correction) []step {
	arg := budgetdb.InsertCorrectionsParams{CreatedAt: b.books.Now}
	var spend budgetdb.CorrectSpendParams
	var costs budgetdb.CorrectEnvelopeCostsParams
	var hours budgetdb.CorrectBudgetHoursParams
	for _, c := range list {
		arg.TenantIds = append(arg.TenantIds, c.Tenant)
		arg.ReservationIds = append(arg.ReservationIds, c.ID)
		arg.Numbers = append(arg.Numbers, c.Number)
		arg.RerateIds = append(arg.RerateIds, c.Rerate)
		arg.OldNano = append(arg.OldNano, int64(c.Old))
		arg.NewNano = append(arg.NewNano, int64(c.New))
		arg.PriceVersions = append(arg.PriceVersions, c.PriceVersion)

		spend.TenantIds = append(spend.TenantIds, c.Tenant)
		spend.ChargedAt = append(spend.ChargedAt, c.ChargedAt)
		spend.WorkflowIds = append(spend.WorkflowIds, c.Subject.WorkflowID)
		spend.Teams = append(spend.Teams, c.Subject.Team)
		spend.AgentIds = append(spend.AgentIds, c.Subject.AgentID)
		spend.ApiKeyIds = append(spend.ApiKeyIds, c.Subject.APIKeyID)
		spend.Models = append(spend.Models, c.Model)
		spend.Deltas = append(spend.Deltas, int64(c.New-c.Old))
		for _, w := range c.Windows {
			if catalog.OfEnvelope(w.Budget) {
				continue
			}
			hours.TenantIds = append(hours.TenantIds, c.Tenant)
			hours.ChargedAt = append(hours.ChargedAt, c.ChargedAt)
			hours.BudgetIds = append(hours.BudgetIds, w.Budget)
			hours.WindowStarts = append(hours.WindowStarts, w.StartTime())
			hours.Models = append(hours.Models, c.Model)
			hours.Deltas = append(hours.Deltas, int64(c.New-c.Old))
		}
		if c.Subject.EnvelopeID != "" {
			costs.TenantIds = append(costs.TenantIds, c.Tenant)
			costs.EnvelopeIds = append(costs.EnvelopeIds, c.Subject.EnvelopeID)
			costs.Models = append(costs.Models, c.Model)
			costs.Deltas = append(costs.Deltas, int64(c.New-c.Old))
		}
	}
	steps := []step{
		func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertCorrections(ctx, arg) },
		func(ctx context.Context, q *budgetdb.Queries) error { return found(q.CorrectSpend(ctx, spend)) },
	}
	if len(costs.EnvelopeIds) > 0 {
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return found(q.CorrectEnvelopeCosts(ctx, costs)) })
	}
	if len(hours.BudgetIds) > 0 {
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.CorrectBudgetHours(ctx, hours) })
	}
	return steps
}

// found refuses corrections of charges that no summary has: what a summary says
// must be the sum of its charges.
func found(missing int64, err error) error {
	if err == nil && missing != 0 {
		return fmt.Errorf("%d corrected charges are in no summary", missing)
	}
	return err
}
