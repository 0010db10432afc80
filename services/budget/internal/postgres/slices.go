package postgres

import (
	"context"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func (b *batch) findSlices(ctx context.Context, q *budgetdb.Queries) error {
	rows, err := q.FindSlices(ctx, budgetdb.FindSlicesParams{TenantIds: b.slices.tenants, Ids: b.slices.ids})
	for _, row := range rows {
		s := &ledger.Slice{
			Ref: ledger.Ref{Tenant: row.TenantID, ID: row.EnvelopeID}, Hash: [32]byte(row.RequestHash), Ended: row.Ended,
		}
		copy(s.Returned[:], row.Returned)
		for i, budget := range row.Behind {
			s.Behind = append(s.Behind, ledger.BehindOf(windowKey(row.TenantID, budget, calendar.Always), row.Vias[i]))
		}
		b.books.Slices[s.Ref] = s
	}
	return err
}

// sliceWrites are few: envelopes open and end far less often than they act.
func (b *batch) sliceWrites(w *ledger.Writes) (steps []step) {
	for _, s := range w.Slices {
		arg := budgetdb.InsertSliceParams{
			TenantID: s.Tenant, EnvelopeID: s.ID, RequestHash: s.Hash[:], Behind: []string{}, Vias: []string{}, CreatedAt: b.books.Now,
		}
		for _, at := range s.Behind {
			arg.Behind, arg.Vias = append(arg.Behind, at.Key.Budget), append(arg.Vias, at.Via.Budget)
		}
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertSlice(ctx, arg) })
	}
	for _, s := range w.Returned {
		arg := budgetdb.EndSliceParams{TenantID: s.Tenant, EnvelopeID: s.ID, ReturnedAt: b.books.Now, Returned: s.Returned[:amount.Units]}
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return all(1)(q.EndSlice(ctx, arg)) })
	}
	return steps
}
