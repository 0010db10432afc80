package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
)

// Due implements upkeep.Holds.
func (s *Store) Due(ctx context.Context, after uuid.UUID, most int) (tenants []uuid.UUID, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = budgetdb.New(tx).TenantsWithDueHolds(ctx, budgetdb.TenantsWithDueHoldsParams{After: after, Lim: int32(most)})
		return err
	})
	return tenants, unreadable("find tenants with due holds", err)
}

// DueHolds implements upkeep.Holds.
func (s *Store) DueHolds(ctx context.Context, tenant uuid.UUID, most int) (ids []uuid.UUID, until time.Time, err error) {
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		if err := q.PlanForBatches(ctx); err != nil {
			return err
		}
		if until, err = q.Clock(ctx); err != nil {
			return err
		}
		ids, err = q.DueHolds(ctx, budgetdb.DueHoldsParams{TenantID: tenant, Until: until, Lim: int32(most)})
		return err
	})
	return ids, until, unreadable("find due holds", err)
}

// MarkSwept implements upkeep.Holds.
func (s *Store) MarkSwept(ctx context.Context, tenant uuid.UUID, until time.Time) error {
	return unreadable("mark a tenant as swept", s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return budgetdb.New(tx).MarkSwept(ctx, budgetdb.MarkSweptParams{TenantID: tenant, SweptUntil: until})
	}))
}

// WithWindows implements upkeep.Counters.
func (s *Store) WithWindows(ctx context.Context, after uuid.UUID, most int) (tenants []uuid.UUID, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = budgetdb.New(tx).TenantsWithWindows(ctx, budgetdb.TenantsWithWindowsParams{After: after, Lim: int32(most)})
		return err
	})
	return tenants, unreadable("find tenants with windows", err)
}

// EnsurePartitions makes the months of the ledger that come next.
func (s *Store) EnsurePartitions(ctx context.Context) error {
	return unreadable("make partitions", s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		return budgetdb.New(tx).EnsureLedgerPartitions(ctx)
	}))
}

// EndStalled implements upkeep.Stoppable.
func (s *Store) EndStalled(ctx context.Context, after time.Duration) (ended int, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		n, err := budgetdb.New(tx).EndStalled(ctx, after.Seconds())
		ended = int(n)
		return err
	})
	return ended, unreadable("end batches that have stopped half way", err)
}
