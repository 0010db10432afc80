package limit

import (
	"context"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Periods are shared buckets of any length.
type Periods interface {
	TakeOne(ctx context.Context, name string, limit int, period time.Duration) (ok bool, retry time.Duration, err error)
}

// Rules counts actions against the rates that rules set. While the shared
// buckets are away, each instance allows a quarter by itself.
type Rules struct {
	shared Periods
	log    *slog.Logger
	local  *otter.Cache[string, *rate.Limiter]
}

// NewRules returns Rules over shared buckets.
func NewRules(shared Periods, log *slog.Logger) *Rules {
	return &Rules{shared: shared, log: log, local: otter.Must(&otter.Options[string, *rate.Limiter]{MaximumSize: 100_000})}
}

// Take implements decision.Rates.
func (r *Rules) Take(ctx context.Context, name string, limit int, period time.Duration) (ok bool, retry time.Duration) {
	ok, retry, err := r.shared.TakeOne(ctx, name, limit, period)
	if err == nil {
		return ok, retry
	}
	r.log.LogAttrs(ctx, slog.LevelWarn, "a rule's rate is counted locally: redis is away", slog.Any("err", err))
	quarter := max(limit/4, 1)
	l, _ := r.local.ComputeIfAbsent(name, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(rate.Every(period/time.Duration(quarter)), quarter), false
	})
	return l.Allow(), period / time.Duration(quarter)
}
