// Package limit keeps one caller from taking what is everybody's.
package limit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
)

// Shared are buckets that all instances draw from.
type Shared interface {
	// Take draws up to n at once. With none it says when to come back.
	Take(ctx context.Context, name string, perSecond, burst, n int) (got int, retry time.Duration, err error)
}

// Rates are requests per second.
type Rates struct {
	PerKey    int // 0: no limit
	PerTenant int // 0: no limit
}

// Limiter limits calls per key and per tenant. It draws from the shared buckets
// a little ahead, so that most calls cost no round trip; what it drew and does
// not use within a second is lost to the caller, never gained. Safe for
// concurrent use.
type Limiter struct {
	shared Shared
	rates  Rates
	log    *slog.Logger
	drawn  *otter.Cache[string, *drawn]

	mu   sync.Mutex // guards what follows
	away time.Time  // since when the shared buckets do not answer; zero: they do
	next time.Time  // when to ask them again
}

// pause is how long shared buckets that do not answer are left alone.
const pause = time.Second

// New returns a Limiter.
func New(shared Shared, rates Rates, log *slog.Logger) *Limiter {
	return &Limiter{shared: shared, rates: rates, log: log, drawn: otter.Must(&otter.Options[string, *drawn]{
		MaximumSize:      100_000,
		ExpiryCalculator: otter.ExpiryAccessing[string, *drawn](time.Minute),
	})}
}

// Close ends what runs in the background. The Limiter is not used after it.
func (l *Limiter) Close() { l.drawn.StopAllGoroutines() }

// Allow counts n calls of p: nil, or a fault.Exhausted that says when to come back.
func (l *Limiter) Allow(ctx context.Context, p identity.Principal, n int) error {
	if p.Tenant == uuid.Nil {
		return l.allow(ctx, "admin", "the administrator's key", l.rates.PerKey, n)
	}
	prefix := "tenant:" + p.Tenant.String() + ":ratelimit:"
	if err := l.allow(ctx, prefix+"key:"+p.KeyID, "this API key", l.rates.PerKey, n); err != nil {
		return err
	}
	return l.allow(ctx, prefix+"all", "this tenant", l.rates.PerTenant, n)
}

func (l *Limiter) allow(ctx context.Context, name, whose string, perSecond, n int) error {
	if perSecond <= 0 {
		return nil
	}
	d, _ := l.drawn.ComputeIfAbsent(name, func() (*drawn, bool) {
		// What one instance allows by itself: a quarter, since others may run.
		local := max(perSecond/4, 1)
		return &drawn{local: rate.NewLimiter(rate.Limit(local), max(local, n))}, false
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if now.After(d.until) {
		d.left = 0
	}
	if d.left < n {
		got, retry, ok := l.take(ctx, name, perSecond, n-d.left+ahead(perSecond))
		if !ok {
			if d.local.AllowN(now, n) {
				return nil
			}
			return limited(whose, perSecond, time.Second)
		}
		d.left += got
		d.until = now.Add(time.Second)
		if d.left < n {
			return limited(whose, perSecond, retry)
		}
	}
	d.left -= n
	return nil
}

// ahead is how many calls are drawn in advance: what a caller at his limit
// makes in 20 ms.
func ahead(perSecond int) int { return perSecond / 50 }

// drawn is what this instance has drawn from a bucket.
type drawn struct {
	mu    sync.Mutex // guards the rest
	left  int
	until time.Time
	local *rate.Limiter // while the shared buckets are away
}

func limited(whose string, perSecond int, retry time.Duration) error {
	return fault.New(fault.Exhausted, "%s may make %d calls a second", whose, perSecond).
		WithReason("RATE_LIMITED").WithRetry(max(retry, 10*time.Millisecond))
}

// take draws from the shared buckets, unless they have just not answered. Not
// ok means that they are away.
func (l *Limiter) take(ctx context.Context, name string, perSecond, n int) (got int, retry time.Duration, ok bool) {
	if l.paused() {
		return 0, 0, false
	}
	got, retry, err := l.shared.Take(ctx, name, perSecond, perSecond, n)
	l.note(ctx, err)
	return got, retry, err == nil
}

func (l *Limiter) paused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.next)
}

// note logs when the shared buckets go away and come back.
func (l *Limiter) note(ctx context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && ctx.Err() != nil: // the caller went away, not the buckets
	case err != nil:
		l.next = time.Now().Add(pause)
		if l.away.IsZero() {
			l.away = time.Now()
			l.log.LogAttrs(ctx, slog.LevelWarn, "rate limits are local and conservative: redis is away", slog.Any("err", err))
		}
	case !l.away.IsZero():
		l.log.LogAttrs(ctx, slog.LevelInfo, "rate limits are shared again", slog.Duration("away", time.Since(l.away)))
		l.away = time.Time{}
	}
}
