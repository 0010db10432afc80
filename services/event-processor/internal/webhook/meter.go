package webhook

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Meter measures attempts, whoever's they are: tenants are no label.
type Meter struct {
	attempts metric.Int64Counter
	took     metric.Float64Histogram
}

// NewMeter returns a Meter that reports to m.
func NewMeter(m metric.Meter) (*Meter, error) {
	var t Meter
	var err1, err2 error
	t.attempts, err1 = m.Int64Counter("fulcrum.webhooks.attempts", metric.WithDescription("Webhook messages sent, by what became of it"))
	t.took, err2 = m.Float64Histogram("fulcrum.webhooks.duration", metric.WithUnit("s"), metric.WithDescription("How long endpoints took to answer"))
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("make instruments: %w", err)
	}
	for _, outcome := range []string{"delivered", "refused", "unanswered"} { // visible before the first
		t.attempts.Add(context.Background(), 0, metric.WithAttributes(attribute.String("outcome", outcome)))
	}
	return &t, nil
}

// attempt counts one. A nil Meter counts nothing.
func (t *Meter) attempt(ctx context.Context, r Result) {
	if t == nil {
		return
	}
	outcome := "unanswered"
	switch {
	case r.Delivered():
		outcome = "delivered"
	case r.Status != 0:
		outcome = "refused"
	}
	t.attempts.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
	t.took.Record(ctx, r.Took.Seconds())
}
