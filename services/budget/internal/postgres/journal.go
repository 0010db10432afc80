package postgres

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// journalWrites insert the batch's transactions, one row a tenant, and what they
// moved, one row a window.
func (b *batch) journalWrites(w *ledger.Writes) []step {
	if len(w.Transactions) == 0 {
		return nil
	}
	id := uuid.Must(uuid.NewV7())
	batches, postings := b.batchParams(id, w), b.postingParams(id, w)
	steps := []step{func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertBatches(ctx, batches) }}
	if len(postings.BudgetIds) > 0 {
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertPostings(ctx, postings) })
	}
	return steps
}

func (b *batch) batchParams(id uuid.UUID, w *ledger.Writes) budgetdb.InsertBatchesParams {
	list := w.Transactions
	if len(b.tenants) > 1 {
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b ledger.Transaction) int { return bytes.Compare(a.Tenant[:], b.Tenant[:]) })
	}
	arg := budgetdb.InsertBatchesParams{
		ID: id, OccurredAt: b.books.Now, TransactionIds: make([]uuid.UUID, 0, len(list)), Kinds: make([]string, 0, len(list)), ReservationIds: make([]uuid.UUID, 0, len(list)),
	}
	for i, t := range list {
		if i == 0 || t.Tenant != list[i-1].Tenant {
			arg.TenantIds = append(arg.TenantIds, t.Tenant)
			arg.Firsts, arg.Lasts = append(arg.Firsts, int32(i+1)), append(arg.Lasts, int32(i))
		}
		arg.TransactionIds = append(arg.TransactionIds, t.ID)
		arg.Kinds = append(arg.Kinds, t.Kind)
		arg.ReservationIds = append(arg.ReservationIds, t.Reservation)
		arg.Lasts[len(arg.Lasts)-1]++
	}
	return arg
}

func (b *batch) postingParams(id uuid.UUID, w *ledger.Writes) budgetdb.InsertPostingsParams {
	n, lines := len(w.Posted), w.Lines()
	arg := budgetdb.InsertPostingsParams{
		BatchID: id, OccurredAt: b.books.Now, TenantIds: make([]uuid.UUID, 0, n), BudgetIds: make([]string, 0, n), WindowStarts: make([]time.Time, 0, n),
		Firsts: make([]int32, 0, n), Lasts: make([]int32, 0, n), LineFirsts: make([]int32, 0, n),
		Refs: make([]int32, 0, lines), Lines: make([]int16, 0, lines), Moves: make([]int16, 0, lines),
	}
	var amounts columns
	for u := range amounts {
		amounts[u] = make([]int64, 0, lines)
	}
	var moved amount.Amounts // what is not 0 in any line
	for i, posted := range w.Posted {
		arg.TenantIds = append(arg.TenantIds, posted.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, posted.Budget)
		arg.WindowStarts = append(arg.WindowStarts, posted.StartTime())
		arg.LineFirsts = append(arg.LineFirsts, int32(len(arg.Lines)+1))
		for e := range w.PostingsOf(posted) {
			arg.Lines = append(arg.Lines, e.Line)
		}
		if i > 0 && w.Alike(posted, w.Posted[i-1]) { // as the levels of one path
			arg.Firsts, arg.Lasts = append(arg.Firsts, arg.Firsts[i-1]), append(arg.Lasts, arg.Lasts[i-1])
			continue
		}
		arg.Firsts = append(arg.Firsts, int32(len(arg.Refs)+1))
		for e := range w.PostingsOf(posted) {
			arg.Refs = append(arg.Refs, e.Ref)
			arg.Moves = append(arg.Moves, 10*place(e.From)+place(e.To))
			amounts.add(e.Amounts)
			for u, n := range e.Amounts {
				moved[u] |= n
			}
		}
		arg.Lasts = append(arg.Lasts, int32(len(arg.Refs)))
	}
	if len(arg.Refs) == len(arg.Lines) { // nothing is shared
		arg.LineFirsts = arg.LineFirsts[:0]
	}
	for u, any := range moved {
		if any == 0 {
			amounts[u] = amounts[u][:0]
		}
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

// accounts in the order of their numbers in ledger_postings.moves, from 1.
var accounts = [...]ledger.Account{ledger.Available, ledger.Held, ledger.Spent, ledger.Overage, ledger.Suspense, ledger.External}

func place(a ledger.Account) int16 { return int16(1 + slices.Index(accounts[:], a)) }
