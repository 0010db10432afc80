package sandbox

import (
	"sync"
	"sync/atomic"
	"time"
)

// stuckAfter is how long past its deadline an evaluation may run before its
// program is taken out of service.
const stuckAfter = 250 * time.Millisecond

// stuck counts the evaluations that passed their watchdog and still run.
var stuck atomic.Int64

// Stuck returns how many evaluations still run long after they were stopped.
// Nothing in Go ends them: an instance that has several needs to be replaced.
func Stuck() int64 { return stuck.Load() }

const (
	maxTimeouts = 3
	window      = time.Minute
)

// Breaker takes a program out of service for a window after maxTimeouts
// timeouts within one.
type Breaker struct {
	mu     sync.Mutex   // guards recent
	recent []time.Time  // timeouts within the window
	until  atomic.Int64 // Unix nanoseconds
}

func (b *Breaker) open(now time.Time) bool { return now.UnixNano() < b.until.Load() }

func (b *Breaker) trip(now time.Time) { b.until.Store(now.Add(window).UnixNano()) }

// TimedOut counts a timeout.
func (b *Breaker) TimedOut(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.recent[:0]
	for _, t := range b.recent {
		if now.Sub(t) < window {
			kept = append(kept, t)
		}
	}
	if b.recent = append(kept, now); len(b.recent) >= maxTimeouts {
		b.recent = nil
		b.trip(now)
	}
}
