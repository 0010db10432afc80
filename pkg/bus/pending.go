package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// watchPending reports, whenever metrics are read, how many messages wait for
// the consumer or for its ack. The returned function ends it.
func watchPending(c Consumer, consumer jetstream.Consumer) (func(), error) {
	if c.Meter == nil {
		return func() {}, nil
	}
	meter := c.Meter.Meter("github.com/fulcrum-io/fulcrum/pkg/bus")
	pending, err := meter.Int64ObservableGauge("fulcrum.bus.pending", metric.WithDescription("messages a consumer has not acked yet"))
	if err != nil {
		return nil, fmt.Errorf("measure consumer %s: %w", c.Durable, err)
	}
	label := metric.WithAttributes(attribute.String("consumer", c.Durable))
	reg, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		info, err := consumer.Info(ctx)
		if err != nil {
			return nil // away: the last value stands, and the bus logs it
		}
		o.ObserveInt64(pending, int64(info.NumPending)+int64(info.NumAckPending), label)
		return nil
	}, pending)
	if err != nil {
		return nil, fmt.Errorf("measure consumer %s: %w", c.Durable, err)
	}
	return func() { _ = reg.Unregister() }, nil // fails only when unregistered twice
}
