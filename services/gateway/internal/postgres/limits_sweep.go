package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
)

// Counted implements decision.Store.
func (s *Store) Counted(ctx context.Context, tenant uuid.UUID, counters []uuid.UUID) (map[uuid.UUID]int64, error) {
	counted := make(map[uuid.UUID]int64, len(counters))
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := gatewaydb.New(tx).Counted(ctx, gatewaydb.CountedParams{TenantID: tenant, Ids: counters})
		for _, r := range rows {
			counted[r.ID] = r.Counted
		}
		return err
	})
	return counted, away("read counters", err)
}

// RenewSlots implements decision.Store.
func (s *Store) RenewSlots(ctx context.Context, tenant, id uuid.UUID, ttl time.Duration) (slots int, until time.Time, err error) {
	var rows []time.Time
	err = s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		rows, err = gatewaydb.New(tx).RenewSlots(ctx, gatewaydb.RenewSlotsParams{TenantID: tenant, DecisionID: id, Seconds: ttl.Seconds()})
		return err
	})
	for i, at := range rows {
		if i == 0 || at.Before(until) {
			until = at
		}
	}
	return len(rows), until, away("renew places", err)
}

// EndSlots implements sweep.Store: nothing of an envelope that has ended runs any more.
func (s *Store) EndSlots(ctx context.Context, tenant, env uuid.UUID) error {
	return away("free places", s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := gatewaydb.New(tx)
		if err := q.PlanByIndex(ctx); err != nil {
			return err
		}
		ids, err := q.CountersOfSlots(ctx, gatewaydb.CountersOfSlotsParams{TenantID: tenant, EnvelopeID: env})
		if err != nil || len(ids) == 0 {
			return err
		}
		if _, err := q.LockCounters(ctx, lockOf(tenant, ids)); err != nil {
			return err
		}
		gone, err := q.EndSlots(ctx, gatewaydb.EndSlotsParams{TenantID: tenant, EnvelopeID: env})
		if err != nil {
			return err
		}
		deltas := make(map[tenantID]int64)
		for _, r := range gone {
			deltas[tenantID{tenant, r.CounterID}] -= r.Amount
		}
		return countLimits(ctx, q, deltas)
	}))
}

// LapseLimits implements sweep.Store. Decisions drop what counts no more of the
// counters they count on; this does it for those that nobody asks.
func (s *Store) LapseLimits(ctx context.Context) error {
	for after := uuid.Nil; ; {
		var tenants []uuid.UUID
		err := s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) (err error) {
			tenants, err = gatewaydb.New(tx).LimitTenants(ctx, gatewaydb.LimitTenantsParams{After: after, Lim: 100})
			return err
		})
		if err != nil || len(tenants) == 0 {
			return away("find limits to lapse", err)
		}
		for _, tenant := range tenants {
			for more := true; more; {
				if more, err = s.lapse(ctx, tenant); err != nil {
					return away("lapse limits", err)
				}
			}
		}
		after = tenants[len(tenants)-1]
	}
}

// lapse drops what counts no more of up to 100 counters, which it touches, or, if
// there are none, counters that nobody needs. It reports whether there may be more.
func (s *Store) lapse(ctx context.Context, tenant uuid.UUID) (more bool, err error) {
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := gatewaydb.New(tx)
		if err := q.PlanByIndex(ctx); err != nil {
			return err
		}
		ids, err := q.IdleCounters(ctx, tenant)
		if err != nil {
			return err
		}
		if more = len(ids) > 0; more {
			return lapse(ctx, q, tenant, ids)
		}
		_, err = q.DropIdleCounters(ctx, tenant)
		return err
	})
	return more, err
}

func lapse(ctx context.Context, q *gatewaydb.Queries, tenant uuid.UUID, ids []uuid.UUID) error {
	lock := lockOf(tenant, ids)
	if _, err := q.LockCounters(ctx, lock); err != nil {
		return err
	}
	deltas := make(map[tenantID]int64)
	lapsed, err := q.LapseEntries(ctx, gatewaydb.LapseEntriesParams{TenantIds: lock.TenantIds, Ids: ids})
	if err != nil {
		return err
	}
	for _, r := range lapsed {
		deltas[tenantID{tenant, r.ID}] -= r.Lapsed
	}
	marks, err := q.EndMarks(ctx, gatewaydb.EndMarksParams{TenantID: tenant, Ids: ids})
	if err != nil {
		return err
	}
	for _, r := range marks {
		deltas[tenantID{tenant, r.CounterID}] -= r.Amount
	}
	return countLimits(ctx, q, deltas)
}

// lockOf locks counters that are there.
func lockOf(tenant uuid.UUID, ids []uuid.UUID) (p gatewaydb.LockCountersParams) {
	for _, id := range ids {
		p.TenantIds, p.Ids = append(p.TenantIds, tenant), append(p.Ids, id)
		p.Labels, p.EnvelopeIds = append(p.Labels, ""), append(p.EnvelopeIds, uuid.Nil)
	}
	return p
}
