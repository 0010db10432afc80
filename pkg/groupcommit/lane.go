package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// lane flushes batch after batch until q is closed and empty.
func (l *Loop[T, R]) lane(ctx context.Context, q *queue[T, R]) {
	items := make([]*item[T, R], 0, l.o.MaxBatch)
	values := make([]T, 0, l.o.MaxBatch)
	turn := make(chan struct{}, 1)
	stepAside := func() { giveWay(turn) }
	company := false // somebody else waits, or was answered and may ask again
	for {
		var closed bool
		if company {
			l.gather(q, stepAside)
		}
		if items, closed = q.take(items[:0], l.o.MaxBatch); closed {
			return
		}
		if len(items) == 0 {
			<-q.wake
			company = false
			continue
		}
		taken := items
		items, values = l.start(items, values[:0])
		if len(items) > 0 {
			l.commit(ctx, items, values)
		}
		company = len(taken) > 1 || q.len() > 0
		clear(taken) // keep nothing alive while idle
		clear(values)
	}
}

// A lane steps aside a few times at most for those who ask by themselves, of whom
// each turn would bring some, forever; the third brings hardly anybody else. For
// those it has answered it does so until they have run, or for about a tenth of a
// millisecond: their processor may be busy with another process.
const (
	turns          = 3
	turnsForAwaken = 64
)

// gather lets callers who are ready to ask do so first, as long as every turn
// brings somebody or somebody who was answered has not run since: those who ask
// again at once then fill one batch instead of two. It waits for nobody who is not
// ready to run.
func (l *Loop[T, R]) gather(q *queue[T, R], stepAside func()) {
	before := -1
	for turn := range turnsForAwaken {
		n := q.len()
		if n >= l.o.MaxBatch || q.awake.Load() <= 0 && (n <= before || turn >= turns) {
			return
		}
		before = n
		stepAside()
	}
}

// giveWay lets everybody run who is ready on this processor.
//
// The goroutine that gives the turn back is last in this processor's line: the
// second one pushes it there from the place of the newest, which would run at
// once. Stepping aside by runtime.Gosched goes to a line that another processor
// looks at first, and got two thirds of those who were about to ask.
func giveWay(turn chan struct{}) {
	go func() { turn <- struct{}{} }()
	go func() {}()
	<-turn
}

// lead flushes v alone, in the place of a lane that rests meanwhile.
func (l *Loop[T, R]) lead(q *queue[T, R], v T) (answer R, err error) {
	defer q.leave()
	results, err := l.try(l.ctx, []T{v})
	if err != nil {
		return answer, err
	}
	return results[0].Value, results[0].Err
}

// start leaves out the items whose callers have gone, and answers them.
func (l *Loop[T, R]) start(items []*item[T, R], values []T) ([]*item[T, R], []T) {
	live := items[:0]
	for _, it := range items {
		if err := it.ctx.Err(); err != nil {
			it.answer(Result[R]{Err: err})
			continue
		}
		live = append(live, it)
		values = append(values, it.value)
	}
	return live, values
}

// commit flushes a batch and answers every item of it exactly once.
func (l *Loop[T, R]) commit(ctx context.Context, items []*item[T, R], values []T) {
	results, err := l.try(ctx, values)
	if err != nil && l.o.Isolate && len(items) > 1 && aboutItems(err) {
		for i := range items {
			l.commit(ctx, items[i:i+1], values[i:i+1])
		}
		return
	}
	for i, it := range items {
		if err != nil {
			it.answer(Result[R]{Err: err})
		} else {
			it.answer(results[i])
		}
	}
}

// try calls the flush under its time limit and turns a panic, or a number of
// answers that is not the number of items, into an error.
func (l *Loop[T, R]) try(ctx context.Context, values []T) (results []Result[R], err error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("flush of %d items panicked: %v\n%s", len(values), p, debug.Stack())
		}
		if l.o.OnFlush != nil {
			l.o.OnFlush(len(values), time.Since(begin), err)
		}
	}()
	results, err = l.flush(ctx, values)
	if err == nil && len(results) != len(values) {
		err = fmt.Errorf("flush of %d items gave %d answers", len(values), len(results))
	}
	return results, err
}

// aboutItems reports whether err may be the fault of one item.
func aboutItems(err error) bool {
	return !fault.Is(err, fault.Down) && !fault.Is(err, fault.Deadline) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
