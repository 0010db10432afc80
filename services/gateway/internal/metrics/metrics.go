// Package metrics counts what the gateway decides and how long that takes.
package metrics

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// Metrics are the gateway's instruments.
type Metrics struct {
	decisions metric.Int64Counter
	latency   metric.Float64Histogram
	flushes   metric.Float64Histogram
	batch     metric.Int64Histogram
}

// New returns the instruments of meter.
func New(meter metric.Meter) (*Metrics, error) {
	var m Metrics
	var err error
	if m.decisions, err = meter.Int64Counter("fulcrum.decisions", metric.WithDescription("Decisions recorded")); err != nil {
		return nil, err
	}
	if m.latency, err = meter.Float64Histogram("fulcrum.decision.duration", metric.WithUnit("s"),
		metric.WithDescription("From the call to the durable answer")); err != nil {
		return nil, err
	}
	if m.flushes, err = meter.Float64Histogram("fulcrum.record.duration", metric.WithUnit("s"),
		metric.WithDescription("One transaction of the recorder")); err != nil {
		return nil, err
	}
	m.batch, err = meter.Int64Histogram("fulcrum.record.batch", metric.WithDescription("Entries in one transaction of the recorder"),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
	return &m, err
}

// Decision implements decision.Observer.
func (m *Metrics) Decision(ctx context.Context, method decision.Method, d governancev1.Decision, took time.Duration) {
	set := metric.WithAttributes(attribute.String("method", string(method)), attribute.String("decision", decision.Name(d)))
	m.decisions.Add(ctx, 1, set)
	m.latency.Record(ctx, took.Seconds(), set)
}

// Flush implements groupcommit.Options.OnFlush.
func (m *Metrics) Flush(entries int, took time.Duration, err error) {
	ctx := context.Background()
	ok := metric.WithAttributes(attribute.Bool("ok", err == nil))
	m.flushes.Record(ctx, took.Seconds(), ok)
	m.batch.Record(ctx, int64(entries), ok)
}
