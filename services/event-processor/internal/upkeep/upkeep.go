// Package upkeep makes room for events to come and forgets those that are too old.
package upkeep

import (
	"context"
	"log/slog"
	"time"
)

// Store is what is looked after. Every method may be repeated.
type Store interface {
	// Extend makes room for the days to come.
	Extend(ctx context.Context) error
	// MayForget reports whether Forget is allowed here.
	MayForget(ctx context.Context) (bool, error)
	// Forget drops what ended before t and returns how many parts that were.
	Forget(ctx context.Context, t time.Time) (int, error)
}

// Keeper looks after a Store.
type Keeper struct {
	Store Store
	Keep  time.Duration // how long history is kept
	Log   *slog.Logger
}

// again is when to try once more what failed: long before the room runs out.
const again = time.Minute

// Run keeps up, now and every day, until ctx ends. A failure is logged and
// tried again: there is room for days, and a default part beyond.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := 24 * time.Hour
		if err := k.Once(ctx, time.Now()); err != nil && ctx.Err() == nil {
			k.Log.LogAttrs(ctx, slog.LevelWarn, "upkeep incomplete", slog.Any("err", err))
			wait = again
		}
		sleep(ctx, wait)
	}
	return nil
}

// Once does what is due at now.
func (k *Keeper) Once(ctx context.Context, now time.Time) error {
	if err := k.Store.Extend(ctx); err != nil {
		return err
	}
	may, err := k.Store.MayForget(ctx)
	if err != nil {
		return err
	}
	if !may {
		k.Log.LogAttrs(ctx, slog.LevelInfo, "retention is left to fulcrum_retention", slog.Duration("keep", k.Keep))
		return nil
	}
	dropped, err := k.Store.Forget(ctx, now.Add(-k.Keep))
	if err != nil {
		return err
	}
	k.Log.LogAttrs(ctx, slog.LevelInfo, "history forgotten", slog.Int("parts", dropped), slog.Duration("keep", k.Keep))
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
