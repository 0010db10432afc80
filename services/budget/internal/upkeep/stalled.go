package upkeep

import (
	"context"
	"log/slog"
	"time"
)

// Stoppable knows batches that have stopped half way.
type Stoppable interface {
	// EndStalled ends the connections of this service, of whichever instance, that
	// have sent a part of a batch and nothing for so long, and returns how many.
	EndStalled(ctx context.Context, after time.Duration) (int, error)
}

const (
	// stalledFor is longer than a batch may take.
	stalledFor   = 10 * time.Second
	stalledEvery = 5 * time.Second
)

// Stalled sees to it that an instance whose host is lost, or which stands still, in
// the middle of a batch keeps the batch's windows from the others only so long.
// Nothing of the batch was done; if its instance comes back, it does it again.
func Stalled(ctx context.Context, s Stoppable, log *slog.Logger) error {
	return every(ctx, stalledEvery, log, "end of batches that stand still", func(ctx context.Context) error {
		n, err := s.EndStalled(ctx, stalledFor)
		if n > 0 {
			log.LogAttrs(ctx, slog.LevelWarn, "ended batches that an instance had stopped in", slog.Int("batches", n), slog.Duration("after", stalledFor))
		}
		return err
	})
}
