package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

const (
	// A round reads the newest holds of all windows with each page, a recount all
	// entries of each window.
	pageOfWindows, pageOfRecount = 1000, 200
	// settled is how old an entry is whose transaction has certainly ended.
	settled = time.Minute
)

// Differences implements upkeep.Counters. What is old enough is added up once
// and kept, so that a round costs what happened since the last one; a recount
// costs what ever happened.
func (s *Store) Differences(ctx context.Context, tenant uuid.UUID, since time.Time, recount bool) (windows int, diffs []ledger.Difference, err error) {
	return s.compare(ctx, tenant, "", since, recount)
}

// Recount compares every counter of a tenant, or of one account of it, with the
// sum of all its entries.
func (s *Store) Recount(ctx context.Context, tenant uuid.UUID, account string) (windows int, diffs []ledger.Difference, err error) {
	return s.compare(ctx, tenant, account, time.Time{}, true)
}

func (s *Store) compare(ctx context.Context, tenant uuid.UUID, account string, since time.Time, recount bool) (windows int, diffs []ledger.Difference, err error) {
	arg := budgetdb.CheckWindowsParams{
		TenantID: tenant, Account: account, TouchedSince: since, Recount: recount, AfterStart: calendar.Always, Lim: pageOfWindows,
	}
	if recount {
		arg.Lim = pageOfRecount
	}
	if err := s.addUpHolds(ctx, tenant, account, recount); err != nil {
		return 0, nil, unreadable("add up holds", err)
	}
	for {
		if windows > 0 { // a page reads the holds that are not kept yet
			if err := s.keepHeld(ctx, tenant); err != nil {
				return windows, diffs, unreadable("add up holds", err)
			}
		}
		page, err := s.page(ctx, arg)
		if err != nil {
			return windows, diffs, unreadable("check windows", err)
		}
		for _, row := range page.rows {
			key := windowKey(tenant, row.BudgetID, row.WindowStart)
			sums := row.Newer
			for i, n := range row.Kept {
				sums[i] += n
			}
			for _, held := range [][]int64{row.Held, page.held[key]} {
				for u, n := range held {
					sums[u*perUnit] += n
				}
			}
			diffs = append(diffs, ledger.Differences(key, row.Counters, sums)...)
			arg.AfterBudget, arg.AfterStart = row.BudgetID, row.WindowStart
		}
		windows += len(page.rows)
		if len(page.rows) < int(arg.Lim) {
			return windows, diffs, nil
		}
	}
}

// perUnit is how many counters a unit has: held, spent, over.
const perUnit = 3

// page is one of windows, as CheckWindows returns it.
type page struct {
	rows []budgetdb.CheckWindowsRow
	held map[ledger.WindowKey][]int64 // newest holds, also of other windows
}

// page reads the next windows, and keeps what they add up to for the next round.
func (s *Store) page(ctx context.Context, arg budgetdb.CheckWindowsParams) (p page, err error) {
	err = s.db.WithTenant(ctx, arg.TenantID, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		if err := q.PlanForBatches(ctx); err != nil {
			return err
		}
		if err := q.Patiently(ctx); err != nil {
			return err
		}
		now, err := q.Clock(ctx)
		if err != nil {
			return err
		}
		rows, err := q.CheckWindows(ctx, arg)
		if err != nil {
			return err
		}
		n := slices.IndexFunc(rows, func(row budgetdb.CheckWindowsRow) bool { return len(row.Counters) == 0 })
		if n < 0 {
			n = len(rows)
		}
		p.rows, p.held = rows[:n], make(map[ledger.WindowKey][]int64, len(rows)-n)
		for _, row := range rows[n:] {
			p.held[windowKey(arg.TenantID, row.BudgetID, row.WindowStart)] = row.Held
		}
		if n == 0 || arg.Recount {
			return nil
		}
		keep := budgetdb.KeepSumsParams{TenantID: arg.TenantID, Through: now.Add(-settled)}
		for _, row := range p.rows {
			keep.BudgetIds = append(keep.BudgetIds, row.BudgetID)
			keep.WindowStarts = append(keep.WindowStarts, row.WindowStart)
		}
		return q.KeepSums(ctx, keep)
	})
	return p, err
}

// Report implements upkeep.Counters.
func (s *Store) Report(ctx context.Context, tenant uuid.UUID, diffs []ledger.Difference, recount bool) (fresh []ledger.Difference, err error) {
	note := budgetdb.NoteDifferencesParams{TenantID: tenant}
	byKey := make(map[differenceKey]ledger.Difference, len(diffs))
	for _, d := range diffs {
		note.BudgetIds = append(note.BudgetIds, d.Window.Budget)
		note.WindowStarts = append(note.WindowStarts, d.Window.StartTime())
		note.Accounts = append(note.Accounts, string(d.Account))
		note.Units = append(note.Units, d.Unit.String())
		note.Differences = append(note.Differences, d.By())
		note.Counters = append(note.Counters, d.Counter)
		note.Entries = append(note.Entries, d.Entries)
		byKey[differenceKey{d.Window, string(d.Account), d.Unit.String(), d.By()}] = d
	}
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		if recount {
			err := q.ClearDifferences(ctx, budgetdb.ClearDifferencesParams{
				TenantID: tenant, BudgetIds: note.BudgetIds, WindowStarts: note.WindowStarts, Accounts: note.Accounts, Units: note.Units, Differences: note.Differences,
			})
			if err != nil {
				return err
			}
		}
		rows, err := q.NoteDifferences(ctx, note)
		if err != nil {
			return err
		}
		var events []*busv1.Event
		for _, row := range rows {
			d := byKey[differenceKey{windowKey(tenant, row.BudgetID, row.WindowStart), row.Account, row.Unit, row.Difference}]
			e, err := differenceEvent(tenant, d)
			if err != nil {
				return err
			}
			fresh, events = append(fresh, d), append(events, e)
		}
		if len(events) == 0 {
			return nil
		}
		return s.Outbox(ctx, tx, events...)
	})
	return fresh, unreadable("report differences", err)
}

// differenceKey is what makes a difference one to announce: counters go on
// moving, but stay off by as much.
type differenceKey struct {
	window        ledger.WindowKey
	account, unit string
	by            int64
}

func differenceEvent(tenant uuid.UUID, d ledger.Difference) (*busv1.Event, error) {
	payload, err := structpb.NewStruct(map[string]any{
		"budget_id": d.Window.Budget, "window_start": d.Window.StartTime().Format(time.RFC3339), "account": string(d.Account),
		"unit": d.Unit.String(), "counter": fmt.Sprint(d.Counter), "entries": fmt.Sprint(d.Entries),
	})
	if err != nil {
		return nil, fmt.Errorf("describe a difference: %w", err)
	}
	return &busv1.Event{
		TenantId: tenant.String(), Stream: busv1.Stream_STREAM_EVENTS, Type: "ledger_difference", Origin: busv1.Origin_ORIGIN_SYSTEM,
		Writer: "budget", Actor: "service:budget", Action: "check", Resource: "budget:" + d.Window.Budget,
		OccurredAt: timestamppb.Now(), Payload: payload,
	}, nil
}
