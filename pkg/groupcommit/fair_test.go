package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// tenant is the key of the numbers in these tests: 1xx, 2xx, 3xx.
func tenant(v int) string { return fmt.Sprint(v / 100) }

func TestBatchesTakeTurnsBetweenKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{MaxBatch: 4}).FairBy(tenant)
		start(t, l)
		var answers []<-chan answer
		for _, v := range []int{100, 101, 102, 103, 104, 200, 201, 300} {
			answers = append(answers, ask(t.Context(), l, v))
		}
		close(s.gate)
		for _, c := range answers {
			if a := <-c; a.err != nil {
				t.Error(a.err)
			}
		}
		want := [][]int{{100}, {101, 200, 300, 102}, {201, 103, 104}}
		if got := s.seen(); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

func TestABusyKeyCannotFillTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{MaxQueue: 4}).FairBy(tenant)
		start(t, l)
		answers := []<-chan answer{ask(t.Context(), l, 100), ask(t.Context(), l, 101), ask(t.Context(), l, 102)}
		if _, err := l.Do(t.Context(), 103); !fault.Is(err, fault.Down) {
			t.Errorf("half of the queue is taken by one key, and it got %v", err)
		}
		answers = append(answers, ask(t.Context(), l, 200))
		close(s.gate)
		for _, c := range answers {
			if a := <-c; a.err != nil {
				t.Error(a.err)
			}
		}
	})
}

// Whatever callers do, each is answered once and with its own answer, nothing
// is flushed twice, what is refused or abandoned in time is not flushed, and
// items of one key are flushed in the order in which they were asked for.
func TestEveryItemIsAnsweredExactlyOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		lanes := rapid.IntRange(1, 4).Draw(rt, "lanes")
		fair := rapid.Bool().Draw(rt, "fair")
		o := Options{
			MaxBatch: rapid.IntRange(1, 5).Draw(rt, "batch"),
			MaxQueue: rapid.IntRange(lanes, 20).Draw(rt, "queue"),
			Lanes:    lanes,
			Lead:     rapid.Bool().Draw(rt, "lead"),
		}
		type act struct {
			key, patience int
			pause         int
			together      int // as many at once, of different keys
		}
		acts := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) act {
			return act{
				rapid.IntRange(0, 3).Draw(rt, "key"),
				rapid.IntRange(0, 6).Draw(rt, "patience"),
				rapid.IntRange(0, 2).Draw(rt, "pause"),
				rapid.IntRange(1, 5).Draw(rt, "together"),
			}
		}), 1, 40).Draw(rt, "acts")

		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			flushed := make(map[int]int) // item -> times
			order := make(map[int][]int) // key -> items
			l := New(func(_ context.Context, batch []int) ([]Result[int], error) {
				mu.Lock()
				for _, v := range batch {
					flushed[v]++
					order[v/1000] = append(order[v/1000], v)
				}
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
				out := make([]Result[int], len(batch))
				for i, v := range batch {
					out[i].Value = -v
				}
				return out, nil
			}, o)
			if fair {
				l.FairBy(func(v int) string { return fmt.Sprint(v / 1000) })
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- l.Run(ctx) }()

			var wg sync.WaitGroup
			for i, a := range acts {
				call, cancel := context.WithTimeout(t.Context(), time.Duration(a.patience)*time.Millisecond)
				check := func(v, got int, err error) {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil && (got != -v || flushed[v] != 1):
						t.Errorf("item %d was answered %d after %d flushes", v, got, flushed[v])
					case fault.Is(err, fault.Down) && flushed[v] != 0:
						t.Errorf("item %d was refused and flushed", v)
					case err != nil && !fault.Is(err, fault.Down) && !errors.Is(err, context.DeadlineExceeded):
						t.Errorf("item %d: %v", v, err)
					}
				}
				vs := make([]int, a.together)
				for n := range vs {
					vs[n] = (a.key+n/2)%4*1000 + i*10 + n
				}
				wg.Go(func() {
					defer cancel()
					if len(vs) == 1 {
						got, err := l.Do(call, vs[0])
						check(vs[0], got, err)
						return
					}
					patient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					defer cancel()
					wait, _ := l.StartAll(call, vs, func(n int) context.Context {
						if n%2 > 0 {
							return patient
						}
						return call
					})
					for n, v := range vs {
						got, err := wait(n)
						check(v, got, err)
					}
				})
				synctest.Wait()
				time.Sleep(time.Duration(a.pause) * time.Millisecond)
			}
			wg.Wait()
			stop()
			if err := <-ended; err != nil || l.Len() != 0 {
				t.Errorf("Run = %v, %d items left", err, l.Len())
			}
			for v, n := range flushed {
				if n != 1 {
					t.Errorf("item %d was flushed %d times", v, n)
				}
			}
			for key, items := range order {
				if (fair || lanes == 1) && !slices.IsSorted(items) {
					t.Errorf("key %d was flushed out of order: %v", key, items)
				}
			}
		})
	})
}

// The same promise on real threads, for the race detector.
func TestEveryItemIsAnsweredUnderContention(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		fair, lead := i&1 > 0, i&2 > 0
		t.Run(fmt.Sprintf("fair %v, lead %v", fair, lead), func(t *testing.T) {
			t.Parallel()
			l := New(func(_ context.Context, batch []int) ([]Result[int], error) {
				out := make([]Result[int], len(batch))
				for i, v := range batch {
					out[i].Value = -v
				}
				return out, nil
			}, Options{Lanes: 3, MaxBatch: 16, Lead: lead})
			if fair {
				l.FairBy(func(v int) string { return fmt.Sprint(v % 7) })
			}
			start(t, l)
			var wg sync.WaitGroup
			for i := range 64 {
				wg.Go(func() {
					for j := range 200 {
						v := i*1000 + j
						ctx, cancel := context.WithCancel(t.Context())
						if j%5 == 0 {
							go cancel()
						}
						got, err := l.Do(ctx, v)
						cancel()
						if err == nil && got != -v || err != nil && !errors.Is(err, context.Canceled) {
							t.Errorf("Do(%d) = %d, %v", v, got, err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
