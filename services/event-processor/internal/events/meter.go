package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// Meter measures the way of events into the journal.
type Meter struct {
	lag              metric.Float64Histogram
	size             metric.Int64Histogram
	stored, repeated metric.Int64Counter
	buried, orphaned metric.Int64Counter
}

// NewMeter returns a Meter that reports to m.
func NewMeter(m metric.Meter) (*Meter, error) {
	var t Meter
	var errs [6]error
	t.lag, errs[0] = m.Float64Histogram("fulcrum.events.lag", metric.WithUnit("s"), metric.WithDescription("From when an event happened until it was stored"))
	t.size, errs[1] = m.Int64Histogram("fulcrum.events.batch", metric.WithDescription("Events delivered together"),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024))
	t.stored, errs[2] = m.Int64Counter("fulcrum.events.stored", metric.WithDescription("Events stored"))
	t.repeated, errs[3] = m.Int64Counter("fulcrum.events.repeated", metric.WithDescription("Deliveries of events that were stored already"))
	t.buried, errs[4] = m.Int64Counter("fulcrum.events.dead_letters", metric.WithDescription("Messages that could not be stored"))
	t.orphaned, errs[5] = m.Int64Counter("fulcrum.events.given_up", metric.WithDescription("Messages that JetStream delivers no more"))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("make instruments: %w", err)
	}
	t.zero(context.Background())
	return &t, nil
}

// zero makes counters visible before their first event: an alert on an
// increase does not see the step from absent to one.
func (t *Meter) zero(ctx context.Context) {
	for _, c := range []metric.Int64Counter{t.stored, t.repeated, t.buried} {
		c.Add(ctx, 0)
	}
	for _, kind := range []string{"max_deliveries", "terminated"} {
		for _, consumer := range []string{Name, "audit"} {
			t.orphaned.Add(ctx, 0, metric.WithAttributes(attribute.String("kind", kind), attribute.String("consumer", consumer)))
		}
	}
}

func (t *Meter) batch(ctx context.Context, delivered int, fresh []journal.Fact, now time.Time) {
	t.size.Record(ctx, int64(delivered))
	t.stored.Add(ctx, int64(len(fresh)))
	t.repeated.Add(ctx, int64(delivered-len(fresh)))
	for _, f := range fresh {
		if f.System { // the clock is ours
			t.lag.Record(ctx, max(0, now.Sub(f.OccurredAt).Seconds()))
		}
	}
}

func (t *Meter) givenUp(ctx context.Context, a bus.Advisory) {
	t.orphaned.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", a.Kind), attribute.String("consumer", a.Consumer)))
}
