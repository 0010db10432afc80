package groupcommit

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// store is a flush that a test can hold up, and that remembers its batches.
type store struct {
	gate    chan struct{} // a flush waits for one token; nil: no waiting
	fail    func(batch []int) error
	mu      sync.Mutex
	batches [][]int
}

func (s *store) flush(ctx context.Context, batch []int) ([]Result[int], error) {
	s.mu.Lock()
	s.batches = append(s.batches, slices.Clone(batch))
	s.mu.Unlock()
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.fail != nil {
		if err := s.fail(batch); err != nil {
			return nil, err
		}
	}
	out := make([]Result[int], len(batch))
	for i, v := range batch {
		out[i].Value = v * 10
	}
	return out, nil
}

func (s *store) seen() [][]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

// start runs l until the test ends, and checks that it ends.
func start[T, R any](t *testing.T, l *Loop[T, R]) (stop context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return cancel
}

type answer struct {
	value int
	err   error
}

// ask calls Do in the background, and returns once it waits or is answered.
func ask(ctx context.Context, l *Loop[int, int], v int) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		got, err := l.Do(ctx, v)
		c <- answer{got, err}
	}()
	synctest.Wait()
	return c
}

func TestALoneItemIsFlushedWithoutWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		l := New(s.flush, Options{})
		start(t, l)
		begin := time.Now()
		got, err := l.Do(t.Context(), 7)
		if got != 70 || err != nil {
			t.Errorf("Do = %d, %v, want 70", got, err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("it waited %v for company", took)
		}
	})
}

func TestWhatQueuesDuringAFlushIsFlushedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{MaxBatch: 4})
		start(t, l)
		var answers []<-chan answer
		for v := range 7 {
			answers = append(answers, ask(t.Context(), l, v))
		}
		for range 3 {
			s.gate <- struct{}{}
		}
		for v, c := range answers {
			if a := <-c; a.value != v*10 || a.err != nil {
				t.Errorf("item %d: %+v", v, a)
			}
		}
		want := [][]int{{0}, {1, 2, 3, 4}, {5, 6}}
		if got := s.seen(); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

func TestAnItemWhoseCallerLeftBeforeItsBatchIsNeverFlushed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{})
		start(t, l)
		first := ask(t.Context(), l, 1)
		ctx, leave := context.WithCancel(t.Context())
		left := ask(ctx, l, 2)
		stayed := ask(t.Context(), l, 3)
		leave()
		if a := <-left; !errors.Is(a.err, context.Canceled) {
			t.Errorf("who left got %+v", a)
		}
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		<-first
		if a := <-stayed; a.value != 30 {
			t.Errorf("who stayed got %+v", a)
		}
		if got, want := s.seen(), [][]int{{1}, {3}}; !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

func TestACallerWhoLeavesDuringTheFlushGetsItsContextsError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{})
		start(t, l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if a := <-ask(ctx, l, 1); !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("got %+v", a)
		}
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		if got, err := l.Do(t.Context(), 2); got != 20 || err != nil {
			t.Errorf("the next item: %d, %v", got, err)
		}
	})
}

func TestAContextThatIsOverIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &store{}
	l := New(s.flush, Options{})
	if _, err := l.Do(ctx, 1); !errors.Is(err, context.Canceled) || l.Len() != 0 {
		t.Errorf("Do = %v with %d waiting", err, l.Len())
	}
}

func TestAFullQueueIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{MaxQueue: 2})
		start(t, l)
		var answers []<-chan answer
		for v := range 3 { // one in flight, two waiting
			answers = append(answers, ask(t.Context(), l, v))
		}
		_, err := l.Do(t.Context(), 9)
		f, ok := fault.As(err)
		if !ok || f.Kind != fault.Down || f.RetryAfter <= 0 || f.Reason != "OVERLOADED" {
			t.Errorf("Do on a full queue = %v", err)
		}
		close(s.gate)
		for _, c := range answers {
			if a := <-c; a.err != nil {
				t.Error(a.err)
			}
		}
	})
}

func TestAFailedFlushIsEverybodysAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		fail func([]int) error
		want string
	}{
		{"an error", func([]int) error { return errors.New("disk is full") }, "disk is full"},
		{"a panic", func([]int) error { panic("nil map") }, "panicked: nil map"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &store{gate: make(chan struct{}, 10), fail: tt.fail}
				l := New(s.flush, Options{})
				start(t, l)
				answers := []<-chan answer{ask(t.Context(), l, 0), ask(t.Context(), l, 1), ask(t.Context(), l, 2)}
				close(s.gate)
				for _, c := range answers {
					if a := <-c; a.err == nil || !strings.Contains(a.err.Error(), tt.want) {
						t.Errorf("got %+v, want %q", a, tt.want)
					}
				}
			})
		})
	}
}

func TestTooFewAnswersAreAnErrorForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(func(context.Context, []int) ([]Result[int], error) { return nil, nil }, Options{})
		start(t, l)
		if _, err := l.Do(t.Context(), 1); err == nil {
			t.Error("an item without an answer was reported as done")
		}
	})
}

func TestABadItemFailsAloneWhenIsolated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		err     error
		flushes int // first item, batch of three, then one by one or not
		healthy bool
	}{
		{"its own error", fault.New(fault.Conflict, "no"), 5, true},
		{"a database that is down is not an item's fault", fault.New(fault.Down, "db"), 2, false},
		{"nor is a timeout", context.DeadlineExceeded, 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &store{gate: make(chan struct{}, 10), fail: func(batch []int) error {
					if slices.Contains(batch, 2) {
						return tt.err
					}
					return nil
				}}
				l := New(s.flush, Options{Isolate: true})
				start(t, l)
				answers := make([]<-chan answer, 4)
				for v := range answers {
					answers[v] = ask(t.Context(), l, v)
				}
				close(s.gate)
				for v, c := range answers {
					a := <-c
					if fine := v == 0 || v != 2 && tt.healthy; fine != (a.err == nil) {
						t.Errorf("item %d: %+v", v, a)
					}
				}
				if got := len(s.seen()); got != tt.flushes {
					t.Errorf("%d flushes, want %d", got, tt.flushes)
				}
			})
		})
	}
}

func TestStoppingFlushesWhatIsQueuedAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{MaxBatch: 1})
		stop := start(t, l)
		answers := []<-chan answer{ask(t.Context(), l, 1), ask(t.Context(), l, 2), ask(t.Context(), l, 3)}
		stop()
		synctest.Wait()
		if _, err := l.Do(t.Context(), 4); !fault.Is(err, fault.Down) {
			t.Errorf("a new item while stopping: %v", err)
		}
		close(s.gate)
		for _, c := range answers {
			if a := <-c; a.err != nil {
				t.Errorf("a queued item was lost: %v", a.err)
			}
		}
	})
}

func TestAFlushThatHangsIsCutByItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{})}
		var told []error
		l := New(s.flush, Options{Timeout: 3 * time.Second, OnFlush: func(_ int, _ time.Duration, err error) { told = append(told, err) }})
		start(t, l)
		begin := time.Now()
		if _, err := l.Do(t.Context(), 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do = %v", err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("it took %v", took)
		}
		if len(told) != 1 || !errors.Is(told[0], context.DeadlineExceeded) {
			t.Errorf("OnFlush heard %v", told)
		}
	})
}

// What is asked for together is flushed together, each with its own answer, and
// what does not fit into the queue fails by itself.
func TestManyShareOneFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, fair := range []bool{false, true} {
			s := &store{}
			l := New(s.flush, Options{MaxQueue: 8, MaxKey: 4})
			if fair {
				l.FairBy(tenant)
			}
			start(t, l)
			synctest.Wait()
			vs := []int{100, 101, 102, 103, 104, 200}
			got := l.DoAll(t.Context(), vs)
			for i, v := range vs {
				if full := fair && v == 104; full != fault.HasReason(got[i].Err, "OVERLOADED") || !full && got[i].Err != nil {
					t.Errorf("fair %v: item %d: %v", fair, v, got[i].Err)
				}
			}
			if n := len(s.seen()); n != 1 {
				t.Errorf("fair %v: %d flushes, want 1", fair, n)
			}
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			if got := l.DoAll(gone, vs[:1]); !errors.Is(got[0].Err, context.Canceled) || len(s.seen()) != 1 {
				t.Errorf("fair %v: after the caller had gone: %v", fair, got)
			}
		}
	})
}

// What is started in an order is flushed in that order, before anybody waits,
// and what is started together is flushed together.
func TestWhatIsStartedTogetherKeepsItsOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{MaxBatch: 4}).FairBy(tenant)
		start(t, l)
		first, _ := l.StartAll(t.Context(), []int{100}, nil)
		synctest.Wait() // in flight
		second, _ := l.StartAll(t.Context(), []int{103, 101}, nil)
		third, _ := l.StartAll(t.Context(), []int{102, 105, 104}, nil)
		close(s.gate)
		for i, want := range []int{1040, 1050, 1020} { // in whatever order one asks
			if got, err := third(2 - i); got != want || err != nil {
				t.Errorf("item %d was answered %d, %v", want/10, got, err)
			}
		}
		for i, want := range []int{1030, 1010} {
			if got, err := second(i); got != want || err != nil {
				t.Errorf("item %d was answered %d, %v", want/10, got, err)
			}
		}
		if got, err := first(0); got != 1000 || err != nil {
			t.Errorf("item 100 was answered %d, %v", got, err)
		}
		if got, want := s.seen(), [][]int{{100}, {103, 101, 102, 105}, {104}}; !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

// A full queue, a context that is over and one that ends are each an item's own.
func TestWhatIsRefusedTakesNobodyAlong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{MaxQueue: 3})
		start(t, l)
		first, _ := l.StartAll(t.Context(), []int{1}, nil)
		synctest.Wait() // in flight
		over, cancel := context.WithCancel(t.Context())
		cancel()
		hurried, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		wait, refused := l.StartAll(t.Context(), []int{2, 3, 4, 5, 6}, func(i int) context.Context {
			return []context.Context{t.Context(), over, hurried, t.Context(), t.Context()}[i]
		})
		for i, want := range []error{nil, context.Canceled, nil, nil, errFull} { // before anybody waits
			if err := refused(i); !errors.Is(err, want) {
				t.Errorf("item %d was refused with %v, want %v", i+2, err, want)
			}
		}
		if _, err := wait(1); !errors.Is(err, context.Canceled) {
			t.Errorf("one that was over before: %v", err)
		}
		if _, err := wait(4); !fault.HasReason(err, "OVERLOADED") {
			t.Errorf("one too many: %v", err)
		}
		if _, err := wait(2); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("one in a hurry: %v after %v", err, time.Since(begin))
		}
		close(s.gate)
		for _, i := range []int{0, 3} {
			if got, err := wait(i); got != 10*(i+2) || err != nil {
				t.Errorf("item %d: %d, %v", i+2, got, err)
			}
		}
		if _, err := first(0); err != nil {
			t.Error(err)
		}
		if got, want := s.seen(), [][]int{{1}, {2, 5}}; !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

func TestALaneStepsAsideWhileItBringsSomebodyAndNotForever(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		brings []int // what each time brings; then nothing
		awake  []int // answered who have not run, before each time; then the last again
		times  int
	}{
		"nobody":                            {nil, []int{0}, 1},
		"some, then nobody":                 {[]int{5}, []int{0}, 2},
		"somebody every time":               {[]int{5, 1, 1, 1, 1, 1}, []int{0}, turns},
		"a full batch":                      {[]int{100, 1}, []int{5}, 1},
		"nobody while some have yet to run": {nil, []int{3, 2, 1, 1, 1, 0}, 5},
		"some who run late":                 {[]int{0, 0, 0, 0, 2, 1}, []int{3, 3, 3, 3, 3, 1, 0}, 6},
		"some who never run":                {nil, []int{1}, turnsForAwaken},
	} {
		l := New((&store{}).flush, Options{MaxBatch: 100})
		times := 0
		awake := func() { l.lanes[0].awake.Store(int64(tt.awake[min(times, len(tt.awake)-1)])) }
		awake()
		l.gather(l.lanes[0], func() {
			if times < len(tt.brings) {
				for range tt.brings[times] {
					if err := l.lanes[0].push(l.item(t.Context(), 1), ""); err != nil {
						t.Error(err)
					}
				}
			}
			times++
			awake()
		})
		if times != tt.times {
			t.Errorf("%s: it stepped aside %d times, want %d", name, times, tt.times)
		}
	}
}

// Whatever becomes of a call, once it is over nobody is counted as ready to run.
func TestWhoHasRunOrGoneIsNotCountedAsAwake(t *testing.T) {
	t.Parallel()
	l := New((&store{}).flush, Options{MaxBatch: 8, Lanes: 2})
	stop := start(t, l)
	var callers sync.WaitGroup
	for n := range 32 {
		callers.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				switch (n + i) % 4 {
				case 0: // is answered
					_, _ = l.Do(ctx, 1)
				case 1: // goes at any moment
					go cancel()
					_, _ = l.Do(ctx, 1)
				case 2: // waits for one of two, late
					wait, _ := l.StartAll(ctx, []int{1, 2}, nil)
					runtime.Gosched()
					_, _ = wait(1)
				case 3: // waits for none
					l.StartAll(ctx, []int{1, 2}, nil)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	stop()
	if n := l.lanes[0].awake.Load(); n != 0 {
		t.Errorf("%d are counted as ready to run, and nobody is there", n)
	}
}
