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
	arg := budgetdb.InsertBatchesParams{ID: id, OccurredAt: b.books.Now, OfOneKind: true, ReservationIds: make([]uuid.UUID, 0, len(list))}
	for i, t := range list {
		arg.ReservationIds = append(arg.ReservationIds, t.Reservation)
		if i == 0 || t.Tenant != list[i-1].Tenant {
			arg.TenantIds, arg.TransactionIds, arg.Kinds = append(arg.TenantIds, t.Tenant), append(arg.TransactionIds, t.ID), append(arg.Kinds, t.Kind)
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

// The places of the arrays of a posting in InsertPostingsParams.Alike; the units
// follow.
const (
	ofRefs = iota
	ofLines
	ofMoves
	ofUnits
)

// alike reports, of each array of a posting, whether its elements are the same, or
// count up, in every window by itself.
func alike(w *ledger.Writes) []bool {
	out := slices.Repeat([]bool{true}, ofUnits+int(amount.Units))
	for _, posted := range w.Posted {
		var before *ledger.Posting
		for e := range w.PostingsOf(posted) {
			if before != nil {
				out[ofRefs] = out[ofRefs] && e.Ref == before.Ref+1
				out[ofLines] = out[ofLines] && e.Line == before.Line
				out[ofMoves] = out[ofMoves] && e.From == before.From && e.To == before.To
				for u := range e.Amounts {
					out[ofUnits+u] = out[ofUnits+u] && e.Amounts[u] == before.Amounts[u]
				}
			}
			before = e
		}
	}
	return out
}

func (b *batch) postingParams(id uuid.UUID, w *ledger.Writes) budgetdb.InsertPostingsParams {
	n, lines := len(w.Posted), w.Lines()
	arg := budgetdb.InsertPostingsParams{
		BatchID: id, OccurredAt: b.books.Now, Alike: alike(w), TenantIds: make([]uuid.UUID, 0, n), BudgetIds: make([]string, 0, n), WindowStarts: make([]time.Time, 0, n),
		Entries: make([]int32, 0, n), Firsts: make([]int32, 0, n), Lasts: make([]int32, 0, n), LineFirsts: make([]int32, 0, n),
	}
	each := slices.Contains(arg.Alike, false) // some array has an element for each line
	elements := int32(0)                      // of such an array so far
	var amounts columns
	var moved amount.Amounts // what is not 0 in any line
	for i, posted := range w.Posted {
		arg.TenantIds = append(arg.TenantIds, posted.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, posted.Budget)
		arg.WindowStarts = append(arg.WindowStarts, posted.StartTime())
		arg.Entries = append(arg.Entries, posted.Lines)
		shared := each && i > 0 && w.Alike(posted, w.Posted[i-1]) // as the levels of one path
		if shared {
			arg.Firsts, arg.Lasts = append(arg.Firsts, arg.Firsts[i-1]), append(arg.Lasts, arg.Lasts[i-1])
		} else {
			arg.Firsts, arg.Lasts = append(arg.Firsts, elements+1), append(arg.Lasts, elements+posted.Lines)
			elements += posted.Lines
		}
		first := true // of its window
		put := func(of int, shared bool) bool { return first && arg.Alike[of] || !shared && !arg.Alike[of] }
		if !arg.Alike[ofLines] {
			arg.LineFirsts = append(arg.LineFirsts, int32(len(arg.Lines)+1))
		}
		for e := range w.PostingsOf(posted) {
			if put(ofRefs, shared) {
				arg.Refs = append(arg.Refs, e.Ref)
			}
			if put(ofLines, false) {
				arg.Lines = append(arg.Lines, e.Line)
			}
			if put(ofMoves, shared) {
				arg.Moves = append(arg.Moves, 10*place(e.From)+place(e.To))
			}
			for u, n := range e.Amounts {
				if put(ofUnits+u, shared) {
					amounts[u] = append(amounts[u], n)
				}
				moved[u] |= n
			}
			if first = false; !each {
				break
			}
		}
	}
	if int(elements) == lines { // nothing is shared
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
