package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Fresh returns the tenant's catalog as it is published now, and the time by
// the database.
func (s *Store) Fresh(ctx context.Context, tenant uuid.UUID) (*catalog.Catalog, time.Time, error) {
	cat, err := s.catalogs.Of(ctx, tenant)
	if err != nil {
		return nil, time.Time{}, down(err)
	}
	var now time.Time
	var version int64
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return pipelined(ctx, tx, []step{
			func(ctx context.Context, q *budgetdb.Queries) (err error) {
				now, err = q.Clock(ctx)
				return err
			},
			func(ctx context.Context, q *budgetdb.Queries) error {
				versions, err := q.BundleVersions(ctx)
				for _, v := range versions {
					version = v.Version
				}
				return err
			},
		}, nil)
	})
	if err == nil && version > cat.Version {
		cat, err = s.catalogs.Load(ctx, tenant)
	}
	return cat, now.UTC(), unreadable("read budgets", err)
}

// Try answers a Reserve as it would be answered now, and holds nothing.
func (s *Store) Try(ctx context.Context, r *ledger.Reserve) (ledger.Answer, error) {
	_, now, err := s.Fresh(ctx, r.Tenant)
	if err != nil {
		return ledger.Answer{}, err
	}
	b := &batch{Store: s, ops: []ledger.Op{r}, left: []int{0}}
	b.collect()
	b.books.Now = now
	b.prepare()
	err = s.db.Read(ctx, r.Tenant, b.peek)
	if err != nil {
		return ledger.Answer{}, unreadable("look at budgets", err)
	}
	answer, err := r.Apply(&b.books)
	answer.Held = false
	return answer, err
}

// Status returns a budget as configured, its window as it stands now, and the
// time by the database; or a NotFound fault.
func (s *Store) Status(ctx context.Context, tenant uuid.UUID, id string) (*catalog.Budget, *ledger.Window, time.Time, error) {
	cat, now, err := s.Fresh(ctx, tenant)
	if err != nil {
		return nil, nil, now, err
	}
	budget := cat.Budget(id)
	if budget == nil {
		return nil, nil, now, fault.New(fault.NotFound, "there is no budget %q", id).WithReason("BUDGET_NOT_FOUND").WithMeta("budget_id", id)
	}
	windows, err := s.Standings(ctx, cat, now, []*catalog.Budget{budget})
	if err != nil {
		return nil, nil, now, err
	}
	return budget, windows[0], now, nil
}

// Named returns the budgets with one of these names that catalog.Named finds for
// s, and their windows as they stand now.
func (s *Store) Named(ctx context.Context, tenant uuid.UUID, names []string, of *catalog.Subject) ([]*catalog.Budget, []*ledger.Window, error) {
	cat, now, err := s.Fresh(ctx, tenant)
	if err != nil {
		return nil, nil, err
	}
	budgets := cat.Named(names, of)
	if len(budgets) == 0 {
		return nil, nil, nil
	}
	windows, err := s.Standings(ctx, cat, now, budgets)
	return budgets, windows, err
}

// Standings returns the window of each of a tenant's budgets as it stands at now.
func (s *Store) Standings(ctx context.Context, cat *catalog.Catalog, now time.Time, budgets []*catalog.Budget) ([]*ledger.Window, error) {
	b := &batch{Store: s, tenants: []uuid.UUID{cat.Tenant}}
	b.books = ledger.Books{Now: now, Catalogs: map[uuid.UUID]*catalog.Catalog{cat.Tenant: cat}, Windows: make(map[ledger.WindowKey]*ledger.Window)}
	windows, err := b.books.Look(cat.Tenant, budgets, func(draws []ledger.Draw) error {
		b.place(draws)
		return s.db.Read(ctx, cat.Tenant, b.peek)
	})
	return windows, unreadable("read the windows of budgets", err)
}

// peek reads the windows of a single tenant's batch without locking them;
// those without a row are as they would begin.
func (b *batch) peek(ctx context.Context, tx db.Tx) error {
	if len(b.locked) == 0 {
		return nil
	}
	arg := budgetdb.ReadWindowsParams{TenantID: b.tenants[0]}
	for _, key := range b.locked {
		d := b.draws[key]
		b.books.Windows[key] = ledger.NewWindow(*d, b.books.Catalogs[key.Tenant].VersionOf(d.Budget))
		arg.BudgetIds = append(arg.BudgetIds, key.Budget)
		arg.WindowStarts = append(arg.WindowStarts, key.StartTime())
	}
	return pipelined(ctx, tx, []step{b.readWindows(arg)}, nil)
}

// Reservation returns one reservation as it stands, or a NotFound fault.
func (s *Store) Reservation(ctx context.Context, ref ledger.Ref) (ledger.Standing, error) {
	if _, err := s.catalogs.Of(ctx, ref.Tenant); err != nil {
		return ledger.Standing{}, down(err)
	}
	b := &batch{Store: s, ops: []ledger.Op{&ledger.Expire{Ref: ref}}, left: []int{0}}
	b.collect()
	err := s.db.Read(ctx, ref.Tenant, func(ctx context.Context, tx db.Tx) error {
		if err := pipelined(ctx, tx, []step{b.findReservations, b.findSettlements}, nil); err != nil {
			return err
		}
		b.fresh = b.refs // show its windows
		return b.lookAtRepeated(ctx, tx)
	})
	if err != nil {
		return ledger.Standing{}, unreadable("read a reservation", err)
	}
	res := b.books.Reservations[ref]
	if res == nil {
		return ledger.Standing{}, fault.New(fault.NotFound, "there is no reservation %s", ref.ID).WithReason("RESERVATION_NOT_FOUND")
	}
	return ledger.Standing{Reservation: res, End: b.books.Ends[ref], States: b.books.States(res)}, nil
}

func unreadable(what string, err error) error {
	if err == nil {
		return nil
	}
	if db.Unavailable(err) {
		return down(err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
