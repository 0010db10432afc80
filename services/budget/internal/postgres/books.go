package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/books"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Entries returns up to most lines of the books after a cursor; fewer are the last.
func (s *Store) Entries(ctx context.Context, tenant uuid.UUID, c books.Cursor, most int) (lines []books.Line, err error) {
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		if err := q.Patiently(ctx); err != nil {
			return err
		}
		if !c.Holds {
			if lines, err = postedLines(ctx, q, tenant, c, most); err != nil {
				return err
			}
			c = c.BeforeHolds()
		}
		if err := q.PlanForBatches(ctx); err != nil { // by index, whatever the planner knows
			return err
		}
		for len(lines) < most {
			more, last, err := linesOfHolds(ctx, q, tenant, c, most-len(lines))
			if err != nil || last == nil {
				return err
			}
			lines, c = append(lines, more...), c.After(*last)
		}
		return nil
	})
	return lines, unreadable("read the books", err)
}

func postedLines(ctx context.Context, q *budgetdb.Queries, tenant uuid.UUID, c books.Cursor, most int) (lines []books.Line, err error) {
	rows, err := q.ExportEntries(ctx, budgetdb.ExportEntriesParams{
		TenantID: tenant, Since: c.From, Until: c.To, Account: c.Account, Lim: int32(most),
		AfterBudget: c.Budget, AfterStart: c.Window, AfterAt: c.At, AfterTransaction: c.Transaction, AfterLine: c.Line,
	})
	for _, r := range rows {
		lines = append(lines, books.Line{
			Entry: ledger.Entry{
				Window: windowKey(tenant, r.BudgetID, r.WindowStart), Transaction: r.TransactionID, Line: r.Line,
				From: ledger.Account(r.FromAccount), To: ledger.Account(r.ToAccount),
				Amounts: amount.Amounts{r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds},
			},
			Kind: r.Kind, At: r.OccurredAt.UTC(), Reservation: r.ReservationID,
		})
	}
	return lines, err
}

// linesOfHolds also returns where it came to, which may be a hold that moved
// nothing, or nil at the end.
func linesOfHolds(ctx context.Context, q *budgetdb.Queries, tenant uuid.UUID, c books.Cursor, most int) (lines []books.Line, last *books.Line, err error) {
	rows, err := q.ExportHolds(ctx, budgetdb.ExportHoldsParams{
		TenantID: tenant, Until: c.To, Account: c.Account, Lim: int32(most), AfterAt: c.At, AfterID: c.Transaction, AfterLine: c.Line,
	})
	for _, r := range rows {
		last = &books.Line{
			Entry: ledger.Entry{
				Window: windowKey(tenant, r.BudgetID, r.WindowStart), Transaction: r.TransactionID, Line: r.Line, From: ledger.Available, To: ledger.Held,
				Amounts: amount.Amounts{r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds},
			},
			Kind: ledger.KindHold, At: r.OccurredAt.UTC(), Reservation: r.TransactionID, OfHold: true,
		}
		if r.Line >= 0 {
			lines = append(lines, *last)
		}
	}
	return lines, last, err
}

// Clock returns the time by the database.
func (s *Store) Clock(ctx context.Context, tenant uuid.UUID) (now time.Time, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		now, err = budgetdb.New(tx).Clock(ctx)
		return err
	})
	return now.UTC(), unreadable("read the clock", err)
}

// OpenHolds returns holds that have not ended.
func (s *Store) OpenHolds(ctx context.Context, q books.HoldQuery) (holds []books.OpenHold, err error) {
	arg := budgetdb.OpenHoldsParams{
		TenantID: q.Tenant, OlderThanSeconds: q.OlderThan.Seconds(), BudgetID: q.Account,
		PastSweep: q.PastSweep, AfterExpiry: q.After.Expiry, AfterID: q.After.ID, Lim: int32(q.Most),
	}
	err = s.db.WithTenant(ctx, q.Tenant, func(ctx context.Context, tx db.Tx) error {
		queries := budgetdb.New(tx)
		if q.PastSweep {
			if err := queries.Patiently(ctx); err != nil {
				return err
			}
		}
		rows, err := queries.OpenHolds(ctx, arg)
		for _, r := range rows {
			holds = append(holds, books.OpenHold{
				ID: r.ID, CreatedAt: r.CreatedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(), Agent: r.AgentID, Envelope: r.EnvelopeID, Model: r.Model,
				Amounts:  amount.Amounts{r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds},
				Accounts: r.BudgetIds,
			})
		}
		return err
	})
	return holds, unreadable("list holds", err)
}
