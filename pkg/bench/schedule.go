package bench

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// Schedule is items that are due at a steady rate, whatever they take, and what
// each takes from when it was due. Their answers may come from anywhere: an item
// that is under way has no goroutine of its own.
type Schedule struct {
	every time.Duration
	first time.Time       // when the first is due; set by Run
	took  []time.Duration // of each, written by its Done
	left  atomic.Int64    // items that are not done
	end   chan error      // takes the first reason to stop, nil when all are done
}

// NewSchedule returns a Schedule for as long as d.
func NewSchedule(perSecond int, d time.Duration) *Schedule {
	every := time.Second / time.Duration(perSecond)
	s := &Schedule{every: every, took: make([]time.Duration, int(d/every)), end: make(chan error, 1)}
	s.left.Store(int64(len(s.took)))
	return s
}

// Run calls begin for each item, numbered from 0, when it is due, waits until all
// are done, and returns their times from when each was due, sorted. begin must not
// wait for answers: it would hold up those who come next, whose times count on. If
// ctx ends or Fail is called, Run returns that and begins nothing more. It must be
// called once.
func (s *Schedule) Run(ctx context.Context, begin func(i int)) ([]time.Duration, error) {
	pace, err := newPacer(s.every)
	if err != nil {
		return nil, err
	}
	defer pace.close()
	s.first = time.Now()
	for i := range s.took {
		at := s.due(i)
		for time.Now().Before(at) {
			if err := pace.wait(); err != nil {
				return nil, err
			}
		}
		select {
		case err := <-s.end: // not by being done: this one is not
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		default:
		}
		begin(i)
	}
	if len(s.took) > 0 {
		select {
		case err = <-s.end:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(s.took)
	return s.took, nil
}

// Done says that an item that has begun was answered just now, once for each.
func (s *Schedule) Done(i int) {
	s.took[i] = time.Since(s.due(i))
	if s.left.Add(-1) == 0 {
		s.stop(nil)
	}
}

// Fail stops Run, which returns err, unless it has ended.
func (s *Schedule) Fail(err error) {
	if err == nil {
		err = errors.New("stopped for no reason")
	}
	s.stop(err)
}

func (s *Schedule) stop(err error) {
	select {
	case s.end <- err:
	default: // something else came first
	}
}

func (s *Schedule) due(i int) time.Time { return s.first.Add(time.Duration(i) * s.every) }
