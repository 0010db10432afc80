package bus

import (
	"context"
	"errors"
	"log/slog"
)

// failed gives a message another try later, or buries it after the last.
func (b *Bus) failed(ctx context.Context, c Consumer, d delivery, cause error) {
	if d.message.Deliveries >= c.MaxDeliver && !temporary(cause) {
		b.bury(ctx, c, d, cause)
		return
	}
	wait := min(c.Retry<<min(d.message.Deliveries-1, 8), c.AckWait)
	if err := d.msg.NakWithDelay(wait); err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "nak was lost", slog.String("consumer", c.Durable), slog.Any("err", err))
	}
}

// temporary reports that the message is not to blame, however often it failed.
func temporary(err error) bool {
	var away interface{ Unavailable() bool }
	return errors.As(err, &away) && away.Unavailable() || errors.Is(err, context.Canceled)
}

func (b *Bus) bury(ctx context.Context, c Consumer, d delivery, cause error) {
	dead := Dead{
		Consumer: c.Durable, Subject: d.msg.Subject(), Tenant: tenantOf(d.msg.Subject()), Data: d.msg.Data(),
		Event: d.message.Event, Headers: d.msg.Headers(), Deliveries: d.message.Deliveries, Err: cause,
	}
	if err := c.Bury(ctx, dead); err != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "dead letter was not kept", slog.String("consumer", c.Durable), slog.Any("err", err))
		_ = d.msg.NakWithDelay(c.AckWait)
		return
	}
	b.log.LogAttrs(ctx, slog.LevelError, "message is dead", slog.String("consumer", c.Durable),
		slog.String("subject", dead.Subject), slog.Int("deliveries", dead.Deliveries), slog.Any("err", cause))
	if err := d.msg.TermWithReason("dead letter"); err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "term was lost", slog.String("consumer", c.Durable), slog.Any("err", err))
	}
}
