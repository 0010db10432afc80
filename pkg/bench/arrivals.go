package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Arrivals calls do at a steady rate for as long as d, whatever the calls take,
// and returns their times from when each was due, sorted. So a call that waits
// for a worker counts its wait: a closed loop would hide it. It returns the
// first error, and stops at it.
func Arrivals(ctx context.Context, perSecond int, d time.Duration, workers int, do func(ctx context.Context, i int) error) ([]time.Duration, error) {
	s := NewSchedule(perSecond, d)
	due := make(chan int, s.Len()) // never full: arrivals do not wait for workers
	var stopped atomic.Bool
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range due {
				if stopped.Load() {
					continue
				}
				if err := do(ctx, i); err != nil {
					stopped.Store(true)
					s.Fail(err)
				}
				s.Done(i)
			}
		})
	}
	took, err := s.Run(ctx, func(i int) { due <- i })
	stopped.Store(true)
	close(due)
	all.Wait()
	return took, err
}
