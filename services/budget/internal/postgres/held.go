package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// addUpHolds keeps what the holds that are their own entries add up to, by time,
// until a moment before which no transaction is open any more. A recount adds up
// anew, too, what was kept before, of one account if it is not empty.
func (s *Store) addUpHolds(ctx context.Context, tenant uuid.UUID, account string, recount bool) error {
	if err := s.keepHeld(ctx, tenant); err != nil || !recount {
		return err
	}
	through, err := s.heldThrough(ctx, tenant)
	if err != nil {
		return err
	}
	anew := make(heldSums)
	if err := s.addHeld(ctx, tenant, account, time.Time{}, through, anew); err != nil {
		return err
	}
	return s.replaceHeld(ctx, tenant, account, through, anew)
}

// heldSums are the holds of windows, each unit modulo 2^64.
type heldSums map[ledger.WindowKey]*amount.Amounts

// spans takes what was held from since until until apart, so that no statement
// takes long: it goes from hold to hold, in steps that grow while they are quick.
func (s *Store) spans(ctx context.Context, tenant uuid.UUID, since, until time.Time, do func(ctx context.Context, q *budgetdb.Queries, from, to time.Time) error) error {
	const shortest, quick, slow = time.Hour, time.Second, 10 * time.Second
	for step := shortest; since.Before(until); {
		began := time.Now()
		err := s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
			q := budgetdb.New(tx)
			if err := q.Patiently(ctx); err != nil {
				return err
			}
			from, err := q.NextHeld(ctx, budgetdb.NextHeldParams{TenantID: tenant, Since: since, Until: until})
			if err != nil {
				return err
			}
			if since = from.Add(step); since.After(until) {
				since = until
			}
			return do(ctx, q, from, since)
		})
		if err != nil {
			return err
		}
		switch took := time.Since(began); {
		case took < quick:
			step *= 2
		case took > slow:
			step = max(step/2, shortest)
		}
	}
	return nil
}

// keepHeld keeps the sums of what was held since the last time. Instances take
// turns, span by span.
func (s *Store) keepHeld(ctx context.Context, tenant uuid.UUID) error {
	through, err := s.heldThrough(ctx, tenant)
	if err != nil {
		return err
	}
	now, err := s.Clock(ctx, tenant)
	if err != nil {
		return err
	}
	return s.spans(ctx, tenant, through, now.Add(-settled), func(ctx context.Context, q *budgetdb.Queries, from, to time.Time) error {
		if !from.Before(to) { // nothing was held
			return nil
		}
		through, err := q.LockHeldThrough(ctx, tenant)
		if err != nil || len(through) == 0 || !through[0].Before(to) {
			return err // another instance was quicker
		}
		if err := q.KeepHeld(ctx, budgetdb.KeepHeldParams{TenantID: tenant, Since: through[0], Until: to}); err != nil {
			return err
		}
		return q.MoveHeld(ctx, budgetdb.MoveHeldParams{TenantID: tenant, Through: to})
	})
}

// heldThrough is the moment before which a tenant's holds are added up: at first,
// before all of them.
func (s *Store) heldThrough(ctx context.Context, tenant uuid.UUID) (through time.Time, err error) {
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		rows, err := q.HeldThrough(ctx, tenant)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			through = rows[0]
			return nil
		}
		return q.BeginHeld(ctx, budgetdb.BeginHeldParams{TenantID: tenant})
	})
	return through, err
}

// addHeld adds what was held in a span to sums.
func (s *Store) addHeld(ctx context.Context, tenant uuid.UUID, account string, since, until time.Time, sums heldSums) error {
	return s.spans(ctx, tenant, since, until, func(ctx context.Context, q *budgetdb.Queries, from, to time.Time) error {
		rows, err := q.HeldBetween(ctx, budgetdb.HeldBetweenParams{TenantID: tenant, Account: account, Since: from, Until: to})
		for _, row := range rows {
			key := windowKey(tenant, row.BudgetID, row.WindowStart)
			if sums[key] == nil {
				sums[key] = new(amount.Amounts)
			}
			for u, n := range row.Held {
				sums[key][u] += n
			}
		}
		return err
	})
}

// replaceHeld keeps sums, which are of all holds before through, instead of what
// was kept. If more was kept meanwhile, that is added first.
func (s *Store) replaceHeld(ctx context.Context, tenant uuid.UUID, account string, through time.Time, sums heldSums) error {
	for {
		var moved time.Time
		err := s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
			q := budgetdb.New(tx)
			if err := q.Patiently(ctx); err != nil {
				return err
			}
			now, err := q.LockHeldThrough(ctx, tenant)
			if err != nil || len(now) == 0 { // somebody deleted it: nothing is kept
				return err
			}
			if moved = now[0]; moved.After(through) {
				return nil
			}
			arg := budgetdb.ReplaceHeldParams{TenantID: tenant, Account: account}
			for key, held := range sums {
				arg.BudgetIds = append(arg.BudgetIds, key.Budget)
				arg.WindowStarts = append(arg.WindowStarts, key.StartTime())
				arg.Held = append(arg.Held, held[:]...)
			}
			return q.ReplaceHeld(ctx, arg)
		})
		if err != nil || !moved.After(through) {
			return err
		}
		if err := s.addHeld(ctx, tenant, account, through, moved, sums); err != nil {
			return err
		}
		through = moved
	}
}
