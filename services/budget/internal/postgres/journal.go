package postgres

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// journalWrites insert the batch's transactions, one row a tenant, and what they
// moved, one row a window.
func (b *batch) journalWrites(w *ledger.Writes) []step {
	if len(w.Transactions) == 0 {
		return nil
	}
	id := uuid.Must(uuid.NewV7())
	batches := b.batchParams(id, w)
	steps := []step{func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertBatches(ctx, batches) }}
	switch {
	case len(w.Posted) == 0:
	case alike(w):
		arg := b.alikeParams(id, w)
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertAlikePostings(ctx, arg) })
	default:
		arg := b.postingParams(id, w)
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertPostings(ctx, arg) })
	}
	return steps
}

func (b *batch) batchParams(id uuid.UUID, w *ledger.Writes) budgetdb.InsertBatchesParams {
	list := w.Transactions
	if len(b.tenants) > 1 {
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b ledger.Transaction) int { return bytes.Compare(a.Tenant[:], b.Tenant[:]) })
	}
	n := len(list)
	arg := budgetdb.InsertBatchesParams{
		ID: id, OccurredAt: b.books.Now, OfOneKind: true, TransactionIds: make([]uuid.UUID, 0, n), ReservationIds: make([]uuid.UUID, 0, n),
	}
	for i, t := range list {
		arg.TransactionIds, arg.ReservationIds = append(arg.TransactionIds, t.ID), append(arg.ReservationIds, t.Reservation)
		if i == 0 || t.Tenant != list[i-1].Tenant {
			arg.TenantIds, arg.Kinds = append(arg.TenantIds, t.Tenant), append(arg.Kinds, t.Kind)
			arg.Firsts, arg.Lasts = append(arg.Firsts, int32(i+1)), append(arg.Lasts, int32(i))
		}
		arg.Lasts[len(arg.Lasts)-1]++
		arg.OfOneKind = arg.OfOneKind && t.Kind == arg.Kinds[len(arg.Kinds)-1]
	}
	if !arg.OfOneKind {
		arg.Kinds = arg.Kinds[:0]
		for _, t := range list {
			arg.Kinds = append(arg.Kinds, t.Kind)
		}
	}
	return arg
}
