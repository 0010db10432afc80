package app

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
)

// metrics implements trail.Observer.
type metrics struct {
	lag      metric.Float64Histogram
	leaves   metric.Int64Counter
	unsigned metric.Int64Gauge
	refused  metric.Int64Counter
}

func newMetrics(t *telemetry.Telemetry) (*metrics, error) {
	meter := t.Meter("github.com/fulcrum-io/fulcrum/services/audit")
	var m metrics
	var errs [4]error
	m.lag, errs[0] = meter.Float64Histogram("fulcrum.audit.lag", metric.WithUnit("s"),
		metric.WithDescription("from the event to its place in the log"))
	m.leaves, errs[1] = meter.Int64Counter("fulcrum.audit.leaves", metric.WithDescription("entries appended"))
	m.unsigned, errs[2] = meter.Int64Gauge("fulcrum.audit.unsigned", metric.WithDescription("tenants whose newest entries no checkpoint covers"))
	m.refused, errs[3] = meter.Int64Counter("fulcrum.audit.refused", metric.WithDescription("logs that contradict themselves and were not signed"))
	m.refused.Add(context.Background(), 0) // an alert on an increase does not see the step from absent to one
	m.leaves.Add(context.Background(), 0)
	return &m, errors.Join(errs[:]...)
}

func (m *metrics) Appended(entries int, lag time.Duration) {
	m.leaves.Add(context.Background(), int64(entries))
	m.lag.Record(context.Background(), lag.Seconds())
}

func (m *metrics) Unsigned(tenants int) { m.unsigned.Record(context.Background(), int64(tenants)) }

func (m *metrics) Refused() { m.refused.Add(context.Background(), 1) }
