package bench

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// A time counts from when its item was due, so that whoever holds up one is seen
// in all who came meanwhile.
func TestATimeCountsFromWhenItWasDue(t *testing.T) {
	t.Parallel()
	const every, n = time.Millisecond, 50
	for name, run := range map[string]func(t *testing.T) ([]time.Duration, error){
		"answers that come late": func(t *testing.T) ([]time.Duration, error) {
			s := NewSchedule(int(time.Second/every), n*every)
			return s.Run(t.Context(), func(i int) {
				if i == n-1 {
					for i := range n {
						s.Done(i)
					}
				}
			})
		},
		"a begin that waits": func(t *testing.T) ([]time.Duration, error) {
			s := NewSchedule(int(time.Second/every), n*every)
			return s.Run(t.Context(), func(i int) {
				if i == 0 {
					<-time.After((n - 1) * every)
				}
				s.Done(i)
			})
		},
		"one worker that is held up": func(t *testing.T) ([]time.Duration, error) {
			return Arrivals(t.Context(), int(time.Second/every), n*every, 1, func(_ context.Context, i int) error {
				if i == 0 {
					<-time.After((n - 1) * every)
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			took, err := run(t)
			if err != nil || len(took) != n || !slices.IsSorted(took) {
				t.Fatalf("%v, %v; want %d times, sorted", took, err, n)
			}
			for i, got := range took {
				if want := time.Duration(i) * every; got < want {
					t.Errorf("number %d from the fastest took %v, want at least %v", i, got, want)
				}
			}
		})
	}
}

func TestEachItemBeginsOnceAndNotBeforeItIsDue(t *testing.T) {
	t.Parallel()
	const every, n = time.Millisecond, 20
	s := NewSchedule(int(time.Second/every), n*every)
	begin, next := time.Now(), 0
	answers := make(chan int, n) // they come from somewhere else
	go func() {
		for i := range answers {
			s.Done(i)
		}
	}()
	took, err := s.Run(t.Context(), func(i int) {
		if since := time.Since(begin); i != next || since < time.Duration(i)*every {
			t.Errorf("item %d began after %v, want item %d", i, since, next)
		}
		next++
		answers <- i
	})
	close(answers)
	if err != nil || len(took) != n || next != n || took[0] < 0 {
		t.Errorf("%d began, times %v, %v", next, took, err)
	}
}

// An answer that never comes must not be waited for once somebody knows.
func TestAScheduleStops(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		at   int // the item whose begin stops it
		want error
	}{
		"at an error":                          {3, broken},
		"at an error when all have begun":      {9, broken},
		"with its context":                     {3, context.Canceled},
		"with its context when all have begun": {9, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := NewSchedule(1000, 10*time.Millisecond)
			last := 0
			took, err := s.Run(ctx, func(i int) {
				last = i
				switch {
				case i < tt.at:
					s.Done(i)
				case errors.Is(tt.want, broken):
					s.Fail(broken)
					s.Fail(errors.New("another"))
				default:
					cancel()
				}
			})
			if !errors.Is(err, tt.want) || took != nil || last != tt.at {
				t.Errorf("it ended at item %d with %v, %v; want item %d and %v", last, took, err, tt.at, tt.want)
			}
		})
	}
}

func TestArrivalsStopAtTheFirstError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var did atomic.Int64
	_, err := Arrivals(t.Context(), 1000, 50*time.Millisecond, 1, func(_ context.Context, i int) error {
		did.Add(1)
		if i == 2 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || did.Load() != 3 {
		t.Errorf("after %d: %v", did.Load(), err)
	}
}
