package chaos

import (
	"maps"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// note counts an answer.
func (c *crowd) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.acked++
	} else {
		c.failed[status.Code(err)]++
		c.such[status.Code(err)] = err
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// await returns when count has grown by n.
func (c *crowd) await(t *testing.T, what string, n int, count func() int) {
	t.Helper()
	late := time.NewTimer(60 * time.Second)
	defer late.Stop()
	for first := -1; ; {
		c.mu.Lock()
		now, changed, such := count(), c.changed, maps.Clone(c.such)
		c.mu.Unlock()
		if first < 0 {
			first = now
		}
		if now-first >= n {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			t.Fatalf("only %d of %d %s within a minute; calls failed with %v", now-first, n, what, such)
		}
	}
}

func (c *crowd) awaitAnswers(t *testing.T, n int) {
	t.Helper()
	c.await(t, "calls were answered", n, func() int { return c.acked })
}

// awaitOutage returns when n more calls found nobody, or nobody able to answer.
func (c *crowd) awaitOutage(t *testing.T, n int) {
	t.Helper()
	c.await(t, "calls found nobody", n, func() int { return c.failed[codes.Unavailable] })
}

// outagesOnly holds that calls only ever failed because nobody could answer, or
// because their callers stopped. Whatever else a caller hears is a fault.
func (c *crowd) outagesOnly(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for code, n := range c.failed {
		if code != codes.Unavailable && code != codes.Canceled {
			t.Errorf("%d calls failed with %s, such as: %v", n, code, c.such[code])
		}
	}
}

// unheard counts the calls that nothing was heard of.
func (c *crowd) unheard() (n int) {
	for _, a := range c.actions {
		if a.answer == nil || a.settle != nil && a.settled == nil {
			n++
		}
	}
	return n
}
