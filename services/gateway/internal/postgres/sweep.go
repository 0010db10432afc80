package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// DueTenants implements sweep.Store.
func (s *Store) DueTenants(ctx context.Context, after uuid.UUID, limit int) (ids []uuid.UUID, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) (err error) {
		ids, err = gatewaydb.New(tx).DueTenants(ctx, gatewaydb.DueTenantsParams{After: after, Lim: int32(limit)})
		return err
	})
	return ids, away("find due tenants", err)
}

// Expire implements sweep.Store: everything of a tenant whose time is over.
func (s *Store) Expire(ctx context.Context, tenant uuid.UUID) (done int, err error) {
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := gatewaydb.New(tx)
		want := make(map[tenantID]step)
		overdue, err := q.OverdueEnvelopes(ctx, tenant)
		if err != nil {
			return fmt.Errorf("find overdue envelopes: %w", err)
		}
		for _, id := range overdue {
			want[tenantID{tenant, id}] = step{move: envelope.Move{Envelope: id, To: envelope.Timeout, Reason: "its time ran out"}}
		}
		expired, err := q.ExpireApprovals(ctx, tenant)
		if err != nil {
			return fmt.Errorf("expire approvals: %w", err)
		}
		var events []*busv1.Event
		for _, a := range expired {
			env := orZero(a.EnvelopeID)
			events = append(events, approvalEvent(tenant, a.ID, env, "approval_expired", "", asked{
				decision: a.DecisionID, kind: a.ActionKind, name: a.ActionName, digest: a.Digest, quorum: a.Quorum,
				key: a.RequestedByKey, agent: a.RequestedByAgent, user: a.RequestedByUser,
			}.facts()))
			if id := (tenantID{tenant, env}); a.OpensEnvelope && want[id].move.Envelope == uuid.Nil {
				want[id] = step{move: envelope.Move{Envelope: env, To: envelope.PolicyViolation, Reason: "nobody approved of it in time"}}
			}
		}
		order := make([]tenantID, 0, len(want))
		for id := range want {
			order = append(order, id)
		}
		if len(order) > 0 {
			moved, err := moveEnvelopes(ctx, q, order, want)
			if err != nil {
				return err
			}
			events = append(events, moved.events...)
		}
		done = len(events)
		return outbox.Append(ctx, tx, events...)
	})
	if err == nil && done > 0 {
		s.nudge()
	}
	return done, away("expire", err)
}

// OpenHolds implements sweep.Store: the reservations of an ended envelope each,
// by envelope.
func (s *Store) OpenHolds(ctx context.Context, tenant uuid.UUID) (map[uuid.UUID][]uuid.UUID, error) {
	holds := make(map[uuid.UUID][]uuid.UUID)
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := gatewaydb.New(tx)
		ended, err := q.EnvelopesWithOpenHolds(ctx, tenant)
		if err != nil {
			return err
		}
		for _, e := range ended {
			rows, err := q.HeldReservations(ctx, gatewaydb.HeldReservationsParams{TenantID: tenant, EnvelopeID: &e.ID})
			if err != nil {
				return err
			}
			holds[e.ID] = nil
			for _, r := range rows {
				holds[e.ID] = append(holds[e.ID], r.ReservationID)
			}
		}
		return nil
	})
	return holds, away("find open holds", err)
}

// CloseHolds implements sweep.Store.
func (s *Store) CloseHolds(ctx context.Context, tenant, env uuid.UUID) error {
	return away("close holds", s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return gatewaydb.New(tx).CloseHolds(ctx, gatewaydb.CloseHoldsParams{TenantID: tenant, ID: env})
	}))
}

// DropStaleKeys implements sweep.Store.
func (s *Store) DropStaleKeys(ctx context.Context) (dropped int64, err error) {
	for after := uuid.Nil; ; {
		var tenants []uuid.UUID
		err := s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) (err error) {
			tenants, err = gatewaydb.New(tx).StaleKeyTenants(ctx, gatewaydb.StaleKeyTenantsParams{After: after, Lim: 100})
			return err
		})
		if err != nil || len(tenants) == 0 {
			return dropped, away("find stale keys", err)
		}
		for _, tenant := range tenants {
			err := s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
				n, err := gatewaydb.New(tx).DropStaleKeys(ctx, tenant)
				dropped += n
				return err
			})
			if err != nil {
				return dropped, away("drop stale keys", err)
			}
		}
		after = tenants[len(tenants)-1]
	}
}

// EnsurePartitions implements sweep.Store.
func (s *Store) EnsurePartitions(ctx context.Context) error {
	return away("ensure partitions", s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		_, err := gatewaydb.New(tx).EnsurePartitions(ctx)
		return err
	}))
}
