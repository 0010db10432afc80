package bench

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Arrivals calls do at a steady rate for as long as d, whatever the calls take,
// and returns their times from when each was due, sorted. So a call that waits
// for a worker counts its wait: a closed loop would hide it. It returns the
// first error, and stops at it.
func Arrivals(ctx context.Context, perSecond int, d time.Duration, workers int, do func(ctx context.Context, i int) error) ([]time.Duration, error) {
	every := time.Second / time.Duration(perSecond)
	total := int(d / every)
	took := make([]time.Duration, total)
	due := make(chan int, total) // never full: arrivals do not wait for workers
	pace, err := newPacer(every)
	if err != nil {
		return nil, err
	}
	defer pace.close()
	var failed atomic.Pointer[error]
	begin := time.Now()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range due {
				if failed.Load() != nil {
					continue
				}
				if err := do(ctx, i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
				took[i] = time.Since(begin.Add(time.Duration(i) * every))
			}
		})
	}
	for i := range total {
		at := begin.Add(time.Duration(i) * every)
		for err == nil && time.Now().Before(at) {
			err = pace.wait()
		}
		due <- i
	}
	close(due)
	all.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	slices.Sort(took)
	return took, errors.Join(err, ctx.Err())
}
