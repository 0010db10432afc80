package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

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
// database: a tenant's rows are leased to one of them at a time. What changes
// the configuration does not wait behind what merely happened: each stream has
// a lane of its own, and is in order by itself.
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
	lanes []*lane
	page  int // tenants looked at together

	metrics relayMetrics

	// Tests make a relay die here.
	published func() error
}

// NewRelay returns a relay that is idle until Run.
func NewRelay(d *db.DB, p Publisher, log *slog.Logger) *Relay {
	none, _ := newRelayMetrics(nil)
	r := &Relay{
		Batch: 1000, Lease: 10 * time.Second, Poll: 250 * time.Millisecond, Pace: 20 * time.Millisecond,
		db: d, bus: p, log: log, page: 64, metrics: none,
		published: func() error { return nil },
	}
	for _, stream := range []busv1.Stream{busv1.Stream_STREAM_EVENTS, busv1.Stream_STREAM_CONFIG} {
		r.lanes = append(r.lanes, &lane{Relay: r, stream: stream, nudge: make(chan struct{}, 1)})
	}
	return r
}

// Nudge makes the relay look at once. Call it after a commit that appended; it
// never blocks.
func (r *Relay) Nudge() {
	for _, l := range r.lanes {
		select {
		case l.nudge <- struct{}{}:
		default:
		}
	}
}

// Run relays until ctx ends. The bus or the database being away is waited out:
// the rows are safe where they are.
func (r *Relay) Run(ctx context.Context) error {
	var err error
	if r.metrics, err = newRelayMetrics(r.Meter); err != nil {
		return fmt.Errorf("measure relay: %w", err)
	}
	var lanes sync.WaitGroup
	for _, l := range r.lanes {
		lanes.Go(func() { l.run(ctx) })
	}
	lanes.Wait()
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
