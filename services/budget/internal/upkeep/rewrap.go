package upkeep

import (
	"context"
	"log/slog"
	"time"
)

// Wrapped are keys that a key-encryption key wraps.
type Wrapped interface {
	// Rewrap wraps by the current key-encryption key what another one wraps, and
	// returns how many that were.
	Rewrap(ctx context.Context) (int, error)
}

// Rewrap finishes a rotation of the key-encryption key: at the start, and again
// every hour, for what an instance with the previous one has made meanwhile.
func Rewrap(ctx context.Context, w Wrapped, log *slog.Logger) error {
	return every(ctx, time.Hour, log, "wrapping of wallets' signing keys", func(ctx context.Context) error {
		n, err := w.Rewrap(ctx)
		if err == nil && n > 0 {
			log.LogAttrs(ctx, slog.LevelInfo, "signing keys of wallets rewrapped", slog.Int("keys", n))
		}
		return err
	})
}
