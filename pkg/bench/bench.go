// Package bench measures operations and their floors side by side, so that a
// noisy machine disturbs both alike and the ratio can be trusted.
package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Case is one operation to measure. Do is called by many callers at once.
type Case struct {
	Name string
	Do   func(ctx context.Context) error
}

// Options say how long to look. Zero values mean the defaults.
type Options struct {
	Callers int           // closed loop; 1
	Rounds  int           // every case once a round; 7
	Each    time.Duration // of one case in one round; 250 ms
}

// Result is the median over the rounds.
type Result struct {
	P50, P99, P999 time.Duration
	PerSecond      float64
	// CPU is what the whole process used per call, callers and collector
	// included; zero where the system does not say.
	CPU time.Duration
	// Bytes and Allocs are what the whole process allocated per call.
	Bytes, Allocs float64
}

// Run measures the cases in turn, round after round, and returns the results
// by name. The first error of any case ends it.
func Run(ctx context.Context, cases []Case, o Options) (map[string]Result, error) {
	if o.Callers == 0 {
		o.Callers = 1
	}
	if o.Rounds == 0 {
		o.Rounds = 7
	}
	if o.Each == 0 {
		o.Each = 250 * time.Millisecond
	}
	rounds := map[string][]Result{}
	for round := range o.Rounds + 1 {
		for i := range cases {
			c := cases[(i+round)%len(cases)] // nobody is always first
			r, err := once(ctx, c, o)
			if err != nil {
				return nil, fmt.Errorf("%s at %d callers: %w", c.Name, o.Callers, err)
			}
			if round > 0 { // the first only warms up
				rounds[c.Name] = append(rounds[c.Name], r)
			}
		}
	}
	out := map[string]Result{}
	for name, rs := range rounds {
		out[name] = Result{
			P50:       median(rs, func(r Result) time.Duration { return r.P50 }),
			P99:       median(rs, func(r Result) time.Duration { return r.P99 }),
			P999:      median(rs, func(r Result) time.Duration { return r.P999 }),
			CPU:       median(rs, func(r Result) time.Duration { return r.CPU }),
			Bytes:     median(rs, func(r Result) float64 { return r.Bytes }),
			Allocs:    median(rs, func(r Result) float64 { return r.Allocs }),
			PerSecond: median(rs, func(r Result) float64 { return r.PerSecond }),
		}
	}
	return out, nil
}

func once(ctx context.Context, c Case, o Options) (Result, error) {
	var callers sync.WaitGroup
	var failed atomic.Value
	took := make([][]time.Duration, o.Callers)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	begin := time.Now()
	end := begin.Add(o.Each)
	for i := range o.Callers {
		callers.Go(func() {
			for {
				start := time.Now()
				if start.After(end) || failed.Load() != nil {
					return
				}
				if err := c.Do(ctx); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	callers.Wait()
	wall, cpu := time.Since(begin), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	if err, ok := failed.Load().(*error); ok {
		return Result{}, *err
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return Result{}, fmt.Errorf("not one call within %v", o.Each)
	}
	slices.Sort(all)
	calls := float64(len(all))
	return Result{
		P50: Quantile(all, 0.5), P99: Quantile(all, 0.99), P999: Quantile(all, 0.999),
		PerSecond: calls / wall.Seconds(), CPU: cpu / time.Duration(len(all)),
		Bytes:  float64(after.TotalAlloc-before.TotalAlloc) / calls,
		Allocs: float64(after.Mallocs-before.Mallocs) / calls,
	}, nil
}

// Quantile returns the q-th part of sorted, which holds at least one value.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

func median[T time.Duration | float64](rs []Result, of func(Result) T) T {
	vs := make([]T, len(rs))
	for i, r := range rs {
		vs[i] = of(r)
	}
	slices.Sort(vs)
	return vs[len(vs)/2]
}
