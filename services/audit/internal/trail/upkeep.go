package trail

import (
	"context"
	"log/slog"
	"time"
)

// SignPeriodically signs what no checkpoint covers yet, until ctx ends: what a
// crash or a failed signature left behind.
func (l *Log) SignPeriodically(ctx context.Context, every time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		tenants, err := l.store.Unsigned(ctx, 1000)
		if err != nil && ctx.Err() == nil {
			log.LogAttrs(ctx, slog.LevelWarn, "cannot look for unsigned entries", slog.Any("err", err))
		}
		if err == nil {
			l.told.Unsigned(len(tenants))
		}
		for _, tenant := range tenants {
			if err := l.SignNew(ctx, tenant); err != nil && ctx.Err() == nil {
				log.LogAttrs(ctx, slog.LevelError, "checkpoint not signed", slog.String("tenant_id", tenant.String()), slog.Any("err", err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
