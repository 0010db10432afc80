// Package sweep ends what nobody ended: envelopes and approvals past their
// time, holds of killed envelopes, idempotency keys of yesterday.
package sweep

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// Store finds and ends what is due, by the database's clock. Everything may be
// repeated, and any number of sweepers may run.
type Store interface {
	DueTenants(ctx context.Context, after uuid.UUID, limit int) ([]uuid.UUID, error)
	Expire(ctx context.Context, tenant uuid.UUID) (done int, err error)
	OpenHolds(ctx context.Context, tenant uuid.UUID) (map[uuid.UUID][]uuid.UUID, error)
	CloseHolds(ctx context.Context, tenant, envelope uuid.UUID) error
	// SlicesToReturn are the envelopes that ended, or never began, and may have
	// taken a slice; DropSlice forgets one that was returned.
	SlicesToReturn(ctx context.Context, tenant uuid.UUID) ([]uuid.UUID, error)
	DropSlice(ctx context.Context, tenant, envelope uuid.UUID) error
	// EndSlots frees what an ended envelope's actions took of limits on what runs
	// in parallel; LapseLimits drops what counts no more.
	EndSlots(ctx context.Context, tenant, envelope uuid.UUID) error
	LapseLimits(ctx context.Context) error
	// ForgetBaselines drops the histories of fields that nothing was added to for
	// a month.
	ForgetBaselines(ctx context.Context) error
	DropStaleKeys(ctx context.Context) (dropped int64, err error)
	EnsurePartitions(ctx context.Context) error
}

// Ledger gives holds and slices back. Every call may be repeated.
type Ledger interface {
	Release(ctx context.Context, req *budgetv1.ReleaseRequest) (*budgetv1.ReleaseResponse, error)
	ReturnSlice(ctx context.Context, req *budgetv1.ReturnSliceRequest) (*budgetv1.ReturnSliceResponse, error)
}

// Sweeper sweeps until its context ends.
type Sweeper struct {
	store  Store
	ledger Ledger
	every  time.Duration
	log    *slog.Logger
	nudge  chan struct{} // holds one: something was killed, look now
}

// New returns a Sweeper that looks every so often.
func New(store Store, ledger Ledger, every time.Duration, log *slog.Logger) *Sweeper {
	return &Sweeper{store: store, ledger: ledger, every: every, log: log, nudge: make(chan struct{}, 1)}
}

// Nudge makes the sweeper look at once. It never blocks.
func (s *Sweeper) Nudge() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// Run sweeps until ctx ends. What fails is tried again the next time.
func (s *Sweeper) Run(ctx context.Context) error {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	var slow time.Time // when the rarely needed was done last
	for {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "sweep incomplete", slog.Any("err", err))
		}
		if time.Since(slow) > time.Minute {
			slow = time.Now()
			s.rarely(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.nudge:
		}
	}
}

func (s *Sweeper) sweep(ctx context.Context) error {
	const page = 100
	for after := uuid.Nil; ctx.Err() == nil; {
		tenants, err := s.store.DueTenants(ctx, after, page)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			if err := s.tenant(ctx, tenant); err != nil {
				// One tenant's trouble is not the next one's.
				s.log.LogAttrs(ctx, slog.LevelWarn, "sweep of a tenant failed", slog.String("tenant_id", tenant.String()), slog.Any("err", err))
			}
		}
		if len(tenants) < page {
			return nil
		}
		after = tenants[len(tenants)-1]
	}
	return ctx.Err()
}

func (s *Sweeper) tenant(ctx context.Context, tenant uuid.UUID) error {
	if _, err := s.store.Expire(ctx, tenant); err != nil {
		return err
	}
	holds, err := s.store.OpenHolds(ctx, tenant)
	if err != nil {
		return err
	}
	ctx = identity.With(ctx, identity.System(tenant))
	for env, reservations := range holds {
		if err := s.release(ctx, reservations); err != nil {
			return err
		}
		if err := s.store.EndSlots(ctx, tenant, env); err != nil {
			return err
		}
		if err := s.store.CloseHolds(ctx, tenant, env); err != nil {
			return err
		}
	}
	return s.slices(ctx, tenant)
}

// slices gives back what ended envelopes have left of their slices.
func (s *Sweeper) slices(ctx context.Context, tenant uuid.UUID) error {
	envelopes, err := s.store.SlicesToReturn(ctx, tenant)
	if err != nil {
		return err
	}
	for _, env := range envelopes {
		if _, err := s.ledger.ReturnSlice(ctx, &budgetv1.ReturnSliceRequest{EnvelopeId: env.String()}); err != nil {
			return err
		}
		if err := s.store.DropSlice(ctx, tenant, env); err != nil {
			return err
		}
	}
	return nil
}

// release gives back what is still held; what was settled, released or has
// expired meanwhile is done with already.
func (s *Sweeper) release(ctx context.Context, reservations []uuid.UUID) error {
	for _, id := range reservations {
		_, err := s.ledger.Release(ctx, &budgetv1.ReleaseRequest{
			ReservationId: id.String(), Reason: "the envelope was ended", IdempotencyKey: "gw:ended:" + id.String(),
		})
		if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Precondition) && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return nil
}

func (s *Sweeper) rarely(ctx context.Context) {
	if err := s.store.EnsurePartitions(ctx); err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "partitions not ensured", slog.Any("err", err))
	}
	if err := s.store.LapseLimits(ctx); err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "limits not lapsed", slog.Any("err", err))
	}
	if err := s.store.ForgetBaselines(ctx); err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "histories of fields not forgotten", slog.Any("err", err))
	}
	if _, err := s.store.DropStaleKeys(ctx); err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "stale idempotency keys not dropped", slog.Any("err", err))
	}
}
