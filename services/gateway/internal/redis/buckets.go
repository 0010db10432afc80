package redis

import (
	"context"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// Buckets are rate limits that all instances share.
type Buckets struct {
	limiter *redis_rate.Limiter
	timeout time.Duration
}

// NewBuckets returns buckets in client's database.
func NewBuckets(client redis.UniversalClient) *Buckets {
	return &Buckets{limiter: redis_rate.NewLimiter(client), timeout: 100 * time.Millisecond}
}

// Take implements limit.Shared: GCRA, up to n of a bucket at once.
func (b *Buckets) Take(ctx context.Context, name string, perSecond, burst, n int) (got int, retry time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	res, err := b.limiter.AllowAtMost(ctx, name, redis_rate.Limit{Rate: perSecond, Burst: burst, Period: time.Second}, n)
	if err != nil {
		return 0, 0, err
	}
	return res.Allowed, max(res.RetryAfter, 0), nil
}

// TakeOne implements limit.Periods.
func (b *Buckets) TakeOne(ctx context.Context, name string, limit int, period time.Duration) (ok bool, retry time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	res, err := b.limiter.Allow(ctx, name, redis_rate.Limit{Rate: limit, Burst: limit, Period: period})
	if err != nil {
		return false, 0, err
	}
	return res.Allowed > 0, max(res.RetryAfter, 0), nil
}
