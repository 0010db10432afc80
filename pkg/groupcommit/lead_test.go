package groupcommit

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

func TestWhoLeadsWaitsForHisFlushBeyondHisDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{Lead: true, Timeout: time.Minute})
		start(t, l)
		synctest.Wait() // the lane rests
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		lead := ask(ctx, l, 7)
		time.Sleep(2 * time.Second)
		s.gate <- struct{}{}
		if a := <-lead; a.value != 70 || a.err != nil {
			t.Errorf("it was answered %+v, want what was committed", a)
		}
		lead = ask(t.Context(), l, 8)
		begin := time.Now()
		if a := <-lead; a.err == nil || time.Since(begin) != time.Minute {
			t.Errorf("a flush that hangs was answered %+v after %v, want an error after a minute", a, time.Since(begin))
		}
	})
}

func TestTheLaneTakesWhatCameWhileACallerLed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{Lead: true})
		start(t, l)
		synctest.Wait()
		var answers []<-chan answer
		for _, v := range []int{1, 2, 3} {
			answers = append(answers, ask(t.Context(), l, v))
		}
		if got := s.seen(); len(got) != 1 {
			t.Errorf("flushes in flight %v, want one at a time", got)
		}
		close(s.gate)
		for i, c := range answers {
			if a := <-c; a.value != 10*(i+1) || a.err != nil {
				t.Errorf("item %d: %+v", i+1, a)
			}
		}
		synctest.Wait()
		if a := <-ask(t.Context(), l, 4); a.value != 40 || a.err != nil { // and it rests again
			t.Errorf("item 4: %+v", a)
		}
		want := [][]int{{1}, {2, 3}, {4}}
		if got := s.seen(); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

func TestStoppingWaitsForWhoLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{gate: make(chan struct{}, 10)}
		l := New(s.flush, Options{Lead: true})
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		lead, queued := ask(t.Context(), l, 1), ask(t.Context(), l, 2)
		stop()
		synctest.Wait()
		if _, err := l.Do(t.Context(), 3); !fault.Is(err, fault.Down) {
			t.Errorf("after the stop: %v", err)
		}
		select {
		case err := <-ended:
			t.Errorf("Run ended while a flush was in flight: %v", err)
		default:
		}
		close(s.gate)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for i, c := range []<-chan answer{lead, queued} {
			if a := <-c; a.value != 10*(i+1) || a.err != nil {
				t.Errorf("item %d: %+v", i+1, a)
			}
		}
	})
}

func TestAPanicOfWhoLeadsIsAnErrorAndTheLaneGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{fail: func(batch []int) error {
			if batch[0] == 1 {
				panic("no")
			}
			return nil
		}}
		l := New(s.flush, Options{Lead: true})
		start(t, l)
		synctest.Wait()
		if _, err := l.Do(t.Context(), 1); err == nil {
			t.Error("a panic was no error")
		}
		if got, err := l.Do(t.Context(), 2); got != 20 || err != nil {
			t.Errorf("after it: %d, %v", got, err)
		}
	})
}
