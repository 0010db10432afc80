package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/outboxdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// lane relays what is for one stream, beside the others.
type lane struct {
	*Relay
	stream busv1.Stream
	nudge  chan struct{} // holds one: work came, look now
}

func (l *lane) run(ctx context.Context) {
	var trouble time.Duration // how long to wait before the next try; 0 = all is well
	for ctx.Err() == nil {
		next := time.Now().Add(l.Pace)
		moved, err := l.pass(ctx)
		sleep(ctx, time.Until(next))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if trouble == 0 {
				l.log.LogAttrs(ctx, slog.LevelWarn, "events wait in the outbox", slog.String("stream", l.stream.String()), slog.Any("error", err))
			}
			trouble = min(max(2*trouble, 100*time.Millisecond), 5*time.Second)
			sleep(ctx, trouble/2+rand.N(trouble/2))
			l.heal(ctx)
		case moved > 0 || trouble > 0:
			if trouble > 0 {
				l.log.LogAttrs(ctx, slog.LevelInfo, "events flow again", slog.String("stream", l.stream.String()))
			}
			trouble = 0
		default:
			l.idle(ctx)
		}
	}
}

func (l *lane) idle(ctx context.Context) {
	t := time.NewTimer(l.Poll)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-l.nudge:
	case <-t.C:
	}
}

// pass visits every tenant with unsent rows once, so that no tenant's flood
// keeps another's events back. An error of one page does not stop the next.
func (l *lane) pass(ctx context.Context) (moved int, err error) {
	var errs []error
	for after := uuid.Nil; ; {
		tenants, err := l.waiting(ctx, after)
		if err != nil {
			return moved, errors.Join(append(errs, err)...)
		}
		if len(tenants) > 0 {
			n, err := l.move(ctx, tenants)
			moved += n
			if err != nil {
				errs = append(errs, err)
			}
			after = tenants[len(tenants)-1]
		}
		if len(tenants) < l.page || len(errs) > 3 {
			return moved, errors.Join(errs...)
		}
	}
}

func (l *lane) waiting(ctx context.Context, after uuid.UUID) (tenants []uuid.UUID, err error) {
	err = l.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = outboxdb.New(tx).TenantsWithUnsent(ctx, outboxdb.TenantsWithUnsentParams{
			Stream: int16(l.stream), After: after, Lim: int32(l.page),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find tenants with unsent events: %w", err)
	}
	return tenants, nil
}

// move leases, publishes and marks: two short transactions with the network
// call between them. Dying in between means publishing again, under the same
// message id.
func (l *lane) move(ctx context.Context, tenants []uuid.UUID) (moved int, err error) {
	rows, err := l.claim(ctx, tenants)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	now := time.Now()
	b := newBatch(rows)
	b.publish(ctx, l.bus, l.Lease/2)
	if err := l.published(); err != nil {
		return 0, err
	}
	// What was published is marked even if we are told to stop now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := b.mark(ctx, l.db, tenants); err != nil {
		return 0, fmt.Errorf("mark events: %w", err)
	}
	b.report(ctx, l.log, l.metrics, now)
	return len(b.sent) + len(b.dead), b.failure()
}

// claim leases rows. The advisory lock keeps two relays from dividing one
// tenant's rows between them, which would let events overtake each other.
func (l *lane) claim(ctx context.Context, tenants []uuid.UUID) (rows []outboxdb.ClaimRow, err error) {
	err = l.db.WithTenants(ctx, tenants, func(ctx context.Context, tx db.Tx) error {
		q := outboxdb.New(tx)
		mine, err := q.LockTenants(ctx, outboxdb.LockTenantsParams{Tenants: tenants, Stream: int16(l.stream)})
		if err != nil || len(mine) == 0 {
			return err
		}
		rows, err = q.Claim(ctx, outboxdb.ClaimParams{
			LeaseSeconds: l.Lease.Seconds(), Tenants: mine, Stream: int16(l.stream), PerTenant: int32(max(1, l.Batch/len(mine))),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim events: %w", err)
	}
	slices.SortFunc(rows, func(a, b outboxdb.ClaimRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return rows, nil
}
