package limit_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/limit"
)

// buckets are shared buckets that never refill, or are away.
type buckets struct {
	mu    sync.Mutex // guards the rest
	left  map[string]int
	away  bool
	asked int
}

func (b *buckets) Take(_ context.Context, name string, _, burst, n int) (int, time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.away {
		return 0, 0, errors.New("away")
	}
	if _, ok := b.left[name]; !ok {
		b.left[name] = burst
	}
	got := min(n, b.left[name])
	b.left[name] -= got
	return got, time.Second, nil
}

func principal() identity.Principal { return identity.Principal{Tenant: uuid.New(), KeyID: "k"} }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// allowed counts how many of n calls are let through.
func allowed(ctx context.Context, l *limit.Limiter, p identity.Principal, n int) (through int, last error) {
	for range n {
		if err := l.Allow(ctx, p, 1); err != nil {
			last = err
			continue
		}
		through++
	}
	return through, last
}

// A caller gets what his bucket has, and then hears when to come back.
func TestACallerGetsWhatHisBucketHas(t *testing.T) {
	t.Parallel()
	b := &buckets{left: make(map[string]int)}
	l := limit.New(b, limit.Rates{PerKey: 100}, discard())
	n, err := allowed(t.Context(), l, principal(), 150)
	if n != 100 || !fault.Is(err, fault.Exhausted) || !fault.HasReason(err, "RATE_LIMITED") {
		t.Errorf("%d calls, %v", n, err)
	}
	if f, _ := fault.As(err); f.RetryAfter <= 0 {
		t.Error("it does not say when to come back")
	}
	if b.asked > 90 {
		t.Errorf("%d questions for 150 calls", b.asked)
	}
}

// One key's flood is not another key's, but all keys are one tenant's.
func TestKeysAndTenantsAreLimitedApart(t *testing.T) {
	t.Parallel()
	l := limit.New(&buckets{left: make(map[string]int)}, limit.Rates{PerKey: 50, PerTenant: 80}, discard())
	one := principal()
	two := one
	two.KeyID = "l"
	if n, _ := allowed(t.Context(), l, one, 100); n != 50 {
		t.Errorf("the first key made %d calls", n)
	}
	if n, _ := allowed(t.Context(), l, two, 100); n != 30 {
		t.Errorf("the second key made %d calls", n)
	}
	if n, _ := allowed(t.Context(), l, principal(), 100); n != 50 {
		t.Errorf("another tenant made %d calls", n)
	}
}

// While the shared buckets are away limits are local and lower, never off; and
// the shared ones are not asked with every call.
func TestWithoutSharedBucketsLimitsAreLower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &buckets{left: make(map[string]int), away: true}
		l := limit.New(b, limit.Rates{PerKey: 100}, discard())
		defer l.Close()
		p := principal()
		if n, err := allowed(t.Context(), l, p, 1000); n != 25 || !fault.Is(err, fault.Exhausted) {
			t.Errorf("%d calls, %v", n, err)
		}
		if b.asked != 1 {
			t.Errorf("%d questions to buckets that are away", b.asked)
		}
		time.Sleep(2 * time.Second)
		if n, _ := allowed(t.Context(), l, p, 1000); n != 25 {
			t.Errorf("%d calls two seconds later", n)
		}
		b.away = false
		time.Sleep(2 * time.Second)
		if n, _ := allowed(t.Context(), l, p, 1000); n != 100 {
			t.Errorf("%d calls when they are back", n)
		}
	})
}

// What was drawn ahead is not kept for later.
func TestWhatIsDrawnAheadIsNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &buckets{left: make(map[string]int)}
		l := limit.New(b, limit.Rates{PerKey: 1000}, discard())
		defer l.Close()
		p := principal()
		if err := l.Allow(t.Context(), p, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if err := l.Allow(t.Context(), p, 1); err != nil {
			t.Fatal(err)
		}
		if b.asked != 2 {
			t.Errorf("%d questions", b.asked)
		}
	})
}
