package postgres

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// alike reports whether the lines of each window differ in nothing but their
// amounts and transactions, and those follow one another: as holds on one path do.
func alike(w *ledger.Writes) bool {
	for _, posted := range w.Posted {
		var before *ledger.Posting
		for e := range w.PostingsOf(posted) {
			if before != nil && (e.Ref != before.Ref+1 || e.Line != before.Line || e.From != before.From || e.To != before.To) {
				return false
			}
			before = e
		}
	}
	return true
}

func (b *batch) alikeParams(id uuid.UUID, w *ledger.Writes) budgetdb.InsertAlikePostingsParams {
	n := len(w.Posted)
	arg := budgetdb.InsertAlikePostingsParams{
		BatchID: id, OccurredAt: b.books.Now, TenantIds: make([]uuid.UUID, 0, n), BudgetIds: make([]string, 0, n), WindowStarts: make([]time.Time, 0, n),
		Entries: make([]int32, 0, n), Refs: make([]int32, 0, n), Lines: make([]int16, 0, n), Moves: make([]int16, 0, n), Firsts: make([]int32, 0, n),
	}
	amounts := newMovedAmounts(int(w.Posted[0].Lines))
	for i, posted := range w.Posted {
		first := w.FirstOf(posted)
		arg.TenantIds = append(arg.TenantIds, posted.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, posted.Budget)
		arg.WindowStarts = append(arg.WindowStarts, posted.StartTime())
		arg.Entries = append(arg.Entries, posted.Lines)
		arg.Refs = append(arg.Refs, first.Ref)
		arg.Lines = append(arg.Lines, first.Line)
		arg.Moves = append(arg.Moves, move(first))
		if i > 0 && w.Alike(posted, w.Posted[i-1]) { // as the levels of one path
			arg.Firsts = append(arg.Firsts, arg.Firsts[i-1])
			continue
		}
		arg.Firsts = append(arg.Firsts, int32(amounts.len()+1))
		for e := range w.PostingsOf(posted) {
			amounts.add(e.Amounts)
		}
	}
	of := amounts.short()
	arg.CostNano = of[amount.Cost]
	arg.TotalTokens = of[amount.TotalTokens]
	arg.InputTokens = of[amount.InputTokens]
	arg.OutputTokens = of[amount.OutputTokens]
	arg.LlmCalls = of[amount.LLMCalls]
	arg.ToolCalls = of[amount.ToolCalls]
	arg.Seconds = of[amount.Seconds]
	return arg
}

func (b *batch) postingParams(id uuid.UUID, w *ledger.Writes) budgetdb.InsertPostingsParams {
	n, lines := len(w.Posted), w.Lines()
	arg := budgetdb.InsertPostingsParams{
		BatchID: id, OccurredAt: b.books.Now, TenantIds: make([]uuid.UUID, 0, n), BudgetIds: make([]string, 0, n), WindowStarts: make([]time.Time, 0, n),
		Firsts: make([]int32, 0, n), Lasts: make([]int32, 0, n), LineFirsts: make([]int32, 0, n),
		Refs: make([]int32, 0, lines), Lines: make([]int16, 0, lines), Moves: make([]int16, 0, lines),
	}
	amounts := newMovedAmounts(lines)
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
			arg.Moves = append(arg.Moves, move(e))
			amounts.add(e.Amounts)
		}
		arg.Lasts = append(arg.Lasts, int32(len(arg.Refs)))
	}
	if len(arg.Refs) == len(arg.Lines) { // nothing is shared
		arg.LineFirsts = arg.LineFirsts[:0]
	}
	of := amounts.short()
	arg.CostNano = of[amount.Cost]
	arg.TotalTokens = of[amount.TotalTokens]
	arg.InputTokens = of[amount.InputTokens]
	arg.OutputTokens = of[amount.OutputTokens]
	arg.LlmCalls = of[amount.LLMCalls]
	arg.ToolCalls = of[amount.ToolCalls]
	arg.Seconds = of[amount.Seconds]
	return arg
}

// movedAmounts are the amounts of lines, unit by unit.
type movedAmounts struct {
	columns
	any amount.Amounts // not 0 of what is not 0 in some line
}

func newMovedAmounts(lines int) *movedAmounts {
	m := &movedAmounts{}
	for u := range m.columns {
		m.columns[u] = make([]int64, 0, lines)
	}
	return m
}

func (m *movedAmounts) len() int { return len(m.columns[0]) }

func (m *movedAmounts) add(a amount.Amounts) {
	m.columns.add(a)
	for u, n := range a {
		m.any[u] |= n
	}
}

// short are the columns, but empty those of units in which nothing moved.
func (m *movedAmounts) short() columns {
	for u, any := range m.any {
		if any == 0 {
			m.columns[u] = m.columns[u][:0]
		}
	}
	return m.columns
}

func move(e *ledger.Posting) int16 { return 10*place(e.From) + place(e.To) }

// accounts in the order of their numbers in ledger_postings.moves, from 1.
var accounts = [...]ledger.Account{ledger.Available, ledger.Held, ledger.Spent, ledger.Overage, ledger.Suspense, ledger.External}

func place(a ledger.Account) int16 { return int16(1 + slices.Index(accounts[:], a)) }
