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
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/outboxdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Publisher is where a relay takes events. *bus.Bus is one.
type Publisher interface {
	// PublishAll publishes in order and returns for each event nil once it is
	// stored, or why not. fault.Invalid means that it never can be.
	PublishAll(ctx context.Context, events []*busv1.Event) []error
	// EnsureStreams makes streams that are missing.
	EnsureStreams(ctx context.Context) error
}

// Relay carries committed events to the bus. Any number may run over one
// database: a tenant's rows are leased to one of them at a time.
type Relay struct {
	// Tunables, to be set before Run.
	Batch int                  // most rows in flight, default 1000
	Lease time.Duration        // after which the rows of a relay that died are another's, default 10 s
	Poll  time.Duration        // how long a row waits if nobody nudged, default 250 ms
	Pace  time.Duration        // least time between two passes, default 20 ms: what is committed meanwhile goes together
	Meter metric.MeterProvider // nil: not measured

	db    *db.DB
	bus   Publisher
	log   *slog.Logger
	nudge chan struct{} // holds one: work came, look now
	page  int           // tenants looked at together

	metrics relayMetrics

	// Tests make a relay die here.
	published func() error
}

// NewRelay returns a relay that is idle until Run.
func NewRelay(d *db.DB, p Publisher, log *slog.Logger) *Relay {
	none, _ := newRelayMetrics(nil)
	return &Relay{
		Batch: 1000, Lease: 10 * time.Second, Poll: 250 * time.Millisecond, Pace: 20 * time.Millisecond,
		db: d, bus: p, log: log, nudge: make(chan struct{}, 1), page: 64, metrics: none,
		published: func() error { return nil },
	}
}

// Nudge makes the relay look at once. Call it after a commit that appended; it
// never blocks.
func (r *Relay) Nudge() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
}

// Run relays until ctx ends. The bus or the database being away is waited out:
// the rows are safe where they are.
func (r *Relay) Run(ctx context.Context) error {
	var err error
	if r.metrics, err = newRelayMetrics(r.Meter); err != nil {
		return fmt.Errorf("measure relay: %w", err)
	}
	var trouble time.Duration // how long to wait before the next try; 0 = all is well
	for ctx.Err() == nil {
		next := time.Now().Add(r.Pace)
		moved, err := r.pass(ctx)
		sleep(ctx, time.Until(next))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if trouble == 0 {
				r.log.LogAttrs(ctx, slog.LevelWarn, "events wait in the outbox", slog.Any("error", err))
			}
			trouble = min(max(2*trouble, 100*time.Millisecond), 5*time.Second)
			sleep(ctx, trouble/2+rand.N(trouble/2))
			r.heal(ctx)
		case moved > 0 || trouble > 0:
			if trouble > 0 {
				r.log.LogAttrs(ctx, slog.LevelInfo, "events flow again")
			}
			trouble = 0
		default:
			r.idle(ctx)
		}
	}
	return nil
}

// heal brings back streams that were lost with their store.
func (r *Relay) heal(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := r.bus.EnsureStreams(ctx); err != nil {
		r.log.LogAttrs(ctx, slog.LevelDebug, "streams not ensured", slog.Any("error", err))
	}
}

func (r *Relay) idle(ctx context.Context) {
	t := time.NewTimer(r.Poll)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.nudge:
	case <-t.C:
	}
}

// pass visits every tenant with unsent rows once, so that no tenant's flood
// keeps another's events back. An error of one page does not stop the next.
func (r *Relay) pass(ctx context.Context) (moved int, err error) {
	var errs []error
	for after := uuid.Nil; ; {
		tenants, err := r.waiting(ctx, after)
		if err != nil {
			return moved, errors.Join(append(errs, err)...)
		}
		if len(tenants) > 0 {
			n, err := r.move(ctx, tenants)
			moved += n
			if err != nil {
				errs = append(errs, err)
			}
			after = tenants[len(tenants)-1]
		}
		if len(tenants) < r.page || len(errs) > 3 {
			return moved, errors.Join(errs...)
		}
	}
}

func (r *Relay) waiting(ctx context.Context, after uuid.UUID) (tenants []uuid.UUID, err error) {
	err = r.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = outboxdb.New(tx).TenantsWithUnsent(ctx, outboxdb.TenantsWithUnsentParams{After: after, Lim: int32(r.page)})
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
func (r *Relay) move(ctx context.Context, tenants []uuid.UUID) (moved int, err error) {
	rows, err := r.claim(ctx, tenants)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	now := time.Now()
	b := newBatch(rows)
	b.publish(ctx, r.bus, r.Lease/2)
	if err := r.published(); err != nil {
		return 0, err
	}
	// What was published is marked even if we are told to stop now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := b.mark(ctx, r.db, tenants); err != nil {
		return 0, fmt.Errorf("mark events: %w", err)
	}
	b.report(ctx, r.log, r.metrics, now)
	return len(b.sent) + len(b.dead), b.failure()
}

// claim leases rows. The advisory lock keeps two relays from dividing one
// tenant's rows between them, which would let events overtake each other.
func (r *Relay) claim(ctx context.Context, tenants []uuid.UUID) (rows []outboxdb.ClaimRow, err error) {
	err = r.db.WithTenants(ctx, tenants, func(ctx context.Context, tx db.Tx) error {
		q := outboxdb.New(tx)
		mine, err := q.LockTenants(ctx, tenants)
		if err != nil || len(mine) == 0 {
			return err
		}
		rows, err = q.Claim(ctx, outboxdb.ClaimParams{
			LeaseSeconds: r.Lease.Seconds(), Tenants: mine, PerTenant: int32(max(1, r.Batch/len(mine))),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim events: %w", err)
	}
	slices.SortFunc(rows, func(a, b outboxdb.ClaimRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return rows, nil
}

func decode(row outboxdb.ClaimRow) (*busv1.Event, error) {
	e := &busv1.Event{}
	if err := proto.Unmarshal(row.Event, e); err != nil {
		return nil, fmt.Errorf("not an event: %w", err)
	}
	return e, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
