// Package upkeep does what nobody calls for: it gives back holds that ran out,
// and checks without pause that the ledger adds up.
package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Lane does ops of the ledger.
type Lane interface {
	Do(ctx context.Context, op ledger.Op) (ledger.Answer, error)
}

// Holds knows which holds ran out. Times are the database's.
type Holds interface {
	// Due returns tenants after the given one, in order, that have holds which
	// came due since they were last swept.
	Due(ctx context.Context, after uuid.UUID, most int) ([]uuid.UUID, error)
	// DueHolds returns holds of a tenant that ran out and have not ended, and
	// the moment up to which it looked.
	DueHolds(ctx context.Context, tenant uuid.UUID, most int) ([]uuid.UUID, time.Time, error)
	// MarkSwept notes that all holds of a tenant that ran out before a moment
	// have ended.
	MarkSwept(ctx context.Context, tenant uuid.UUID, until time.Time) error
}

// Sweeper ends holds that nobody settled in time, through the same lane as
// everybody: a settlement at the same moment wins or comes late, never both.
type Sweeper struct {
	Lane  Lane
	Holds Holds
	Log   *slog.Logger
	Every time.Duration
	Swept func(ctx context.Context, holds int) // told how many were given back; may be nil
}

const (
	pageOfTenants = 200
	pageOfHolds   = 512
	// slack is how far a mark stays behind: longer than a batch may take, so
	// that a hold committed after it ran out is still found.
	slack = 30 * time.Second
)

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	return every(ctx, s.Every, s.Log, "sweep of expired holds", s.Sweep)
}

// Sweep gives back every hold that has run out. One tenant's failure does not
// keep the others waiting.
func (s *Sweeper) Sweep(ctx context.Context) error {
	var after uuid.UUID
	var failures []error
	for {
		tenants, err := s.Holds.Due(ctx, after, pageOfTenants)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			after = tenant
			if err := s.tenant(ctx, tenant); err != nil {
				failures = append(failures, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if len(tenants) < pageOfTenants {
			return errors.Join(failures...)
		}
	}
}

func (s *Sweeper) tenant(ctx context.Context, tenant uuid.UUID) error {
	for {
		ids, until, err := s.Holds.DueHolds(ctx, tenant, pageOfHolds)
		if err != nil {
			return err
		}
		var swept atomic.Int64
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(pageOfHolds)
		for _, id := range ids {
			g.Go(func() error {
				a, err := s.Lane.Do(gctx, &ledger.Expire{Ref: ledger.Ref{Tenant: tenant, ID: id}})
				if !a.Amounts.IsZero() {
					swept.Add(1)
				}
				return err
			})
		}
		err = g.Wait()
		if n := int(swept.Load()); n > 0 && s.Swept != nil {
			s.Swept(ctx, n)
		}
		if err != nil {
			return err
		}
		if len(ids) < pageOfHolds {
			return s.Holds.MarkSwept(ctx, tenant, until.Add(-slack))
		}
	}
}
