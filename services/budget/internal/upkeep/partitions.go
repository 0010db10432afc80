package upkeep

import (
	"context"
	"log/slog"
	"time"
)

// Partitioned makes the ledger's next months.
type Partitioned interface {
	EnsurePartitions(ctx context.Context) error
}

// Partitions sees to it, once a day, that the months to come have a partition.
// One that is missed is no harm: rows wait in the default partition.
func Partitions(ctx context.Context, p Partitioned, log *slog.Logger) error {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		if err := p.EnsurePartitions(ctx); err != nil && ctx.Err() == nil {
			log.LogAttrs(ctx, slog.LevelWarn, "partitions of the ledger not made, tomorrow again", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
