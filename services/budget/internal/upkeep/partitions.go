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
	return every(ctx, 24*time.Hour, log, "partitions of the ledger", p.EnsurePartitions)
}
