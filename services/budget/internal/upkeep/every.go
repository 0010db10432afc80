package upkeep

import (
	"context"
	"log/slog"
	"time"
)

// every does something at once and then at each tick, until ctx ends. A failure is
// logged and not returned.
func every(ctx context.Context, period time.Duration, log *slog.Logger, what string, do func(context.Context) error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			log.LogAttrs(ctx, slog.LevelWarn, "upkeep stopped half way, next time again", slog.String("of", what), slog.Duration("every", period), slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
