package groupcommit

import (
	"context"
	"sync/atomic"
)

// item is one waiting call. Once pushed it belongs to the queue, then to the
// lane that took it, until the lane answers.
type item[T, R any] struct {
	value T
	ctx   context.Context // of the call: a lane leaves out calls that have ended
	queue *queue[T, R]
	done  chan Result[R] // has room for the one answer, so lanes never wait
	state atomic.Int32
	next  *item[T, R]
}

// The states of an item. Who waits for one that is answered is ready to run, and
// counted until he does.
const (
	unawaited int32 = iota
	awaited
	answered // while it was awaited
)

// answer is for a lane, once for each item.
func (it *item[T, R]) answer(r Result[R]) {
	if it.state.CompareAndSwap(awaited, answered) {
		it.queue.awake.Add(1)
	}
	it.done <- r
}

// await is the answer to an item that was pushed, or its context's error. An answer
// that came at the same moment is worth more than that.
func (l *Loop[T, R]) await(it *item[T, R]) (none R, _ error) {
	it.state.CompareAndSwap(unawaited, awaited)
	var res Result[R]
	select {
	case res = <-it.done:
	case <-it.ctx.Done():
		if it.state.CompareAndSwap(awaited, unawaited) {
			select {
			case res = <-it.done: // came before it was awaited
			default:
				return none, it.ctx.Err() // a lane still holds it, so it is not recycled
			}
		} else {
			res = <-it.done
		}
	}
	if it.state.Load() == answered {
		it.queue.awake.Add(-1)
	}
	l.recycle(it)
	return res.Value, res.Err
}
