package outbox

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

const scope = "github.com/fulcrum-io/fulcrum/pkg/outbox"

type relayMetrics struct {
	sent, failed, dead metric.Int64Counter
	delay              metric.Float64Histogram
}

func newRelayMetrics(p metric.MeterProvider) (i relayMetrics, err error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := p.Meter(scope)
	var errs [4]error
	i.sent, errs[0] = m.Int64Counter("fulcrum.outbox.sent", metric.WithDescription("Events published and acknowledged"))
	i.failed, errs[1] = m.Int64Counter("fulcrum.outbox.failed", metric.WithDescription("Publishing attempts to be repeated"))
	i.dead, errs[2] = m.Int64Counter("fulcrum.outbox.dead", metric.WithDescription("Events the bus can never take"))
	i.delay, errs[3] = m.Float64Histogram("fulcrum.outbox.delay", metric.WithUnit("s"),
		metric.WithDescription("From the commit of an event until a relay took it"),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 300))
	zero(i.sent, i.failed, i.dead)
	return i, errors.Join(errs[:]...)
}

// zero makes counters visible before their first event: an alert on an
// increase does not see the step from absent to one.
func zero(counters ...metric.Int64Counter) {
	for _, c := range counters {
		c.Add(context.Background(), 0)
	}
}

type gapMetrics struct {
	resent, deleted metric.Int64Counter
	gap             metric.Int64Gauge
	oldest          metric.Float64Gauge
}

func newGapMetrics(p metric.MeterProvider) (i gapMetrics, err error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := p.Meter(scope)
	var errs [4]error
	i.resent, errs[0] = m.Int64Counter("fulcrum.outbox.resent", metric.WithDescription("Events sent again because a consumer did not confirm them"))
	i.deleted, errs[1] = m.Int64Counter("fulcrum.outbox.deleted", metric.WithDescription("Events confirmed by all and deleted"))
	i.gap, errs[2] = m.Int64Gauge("fulcrum.outbox.gap", metric.WithDescription("Events that the last reconciliation found unconfirmed"))
	i.oldest, errs[3] = m.Float64Gauge("fulcrum.outbox.gap_age", metric.WithUnit("s"), metric.WithDescription("Age of the oldest of them"))
	zero(i.resent, i.deleted)
	i.gap.Record(context.Background(), 0)
	i.oldest.Record(context.Background(), 0)
	return i, errors.Join(errs[:]...)
}
