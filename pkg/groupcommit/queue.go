package groupcommit

import (
	"sync"
	"sync/atomic"
)

// fifo is a list of items in order of arrival.
type fifo[T, R any] struct {
	head, tail *item[T, R]
	n          int
	key        string
	next       *fifo[T, R] // in the ring of keys that wait, or in the free list
}

func (f *fifo[T, R]) push(it *item[T, R]) {
	if f.tail == nil {
		f.head = it
	} else {
		f.tail.next = it
	}
	f.tail = it
	f.n++
}

func (f *fifo[T, R]) pop() *item[T, R] {
	it := f.head
	if f.head = it.next; f.head == nil {
		f.tail = nil
	}
	it.next = nil
	f.n--
	return it
}

// queue is what waits for one lane, or for all of them.
type queue[T, R any] struct {
	max, maxKey int
	full        error         // what one too many is told
	wake        chan struct{} // one token for each lane that was idle
	awake       atomic.Int64  // callers who were answered and have not run since

	mu     sync.Mutex // guards everything below
	n      int
	idle   int // lanes that wait for a token
	closed bool

	all fifo[T, R] // without keys

	byKey       map[string]*fifo[T, R] // with keys: those that wait
	first, last *fifo[T, R]            // the same, whose turn is next first
	free        *fifo[T, R]
}

func newQueue[T, R any](most, lanes int, full error) *queue[T, R] {
	return &queue[T, R]{max: most, full: full, wake: make(chan struct{}, lanes)}
}

func (q *queue[T, R]) push(it *item[T, R], key string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.add(it, key)
}

// pushAll lets f push many before any lane takes one.
func (q *queue[T, R]) pushAll(f func(push func(*item[T, R], string) error)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f(q.add)
}

func (q *queue[T, R]) add(it *item[T, R], key string) error {
	switch {
	case q.closed:
		return errClosed
	case q.n >= q.max:
		return q.full
	case q.byKey == nil:
		q.all.push(it)
	default:
		f := q.byKey[key]
		if f == nil {
			f = q.line(key)
		} else if f.n >= q.maxKey {
			return q.full
		}
		f.push(it)
	}
	q.n++
	if q.idle > 0 {
		q.idle--
		q.wake <- struct{}{} // has room: idle never exceeds its capacity
	}
	return nil
}

// take moves up to limit items to batch. With nothing to take it counts the
// caller as idle, and says whether the queue is closed for good.
func (q *queue[T, R]) take(batch []*item[T, R], limit int) (_ []*item[T, R], closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		if !q.closed {
			q.idle++
		}
		return batch, q.closed
	}
	for ; limit > 0 && q.n > 0; limit-- {
		q.n--
		if q.byKey == nil {
			batch = append(batch, q.all.pop())
		} else {
			batch = append(batch, q.turn())
		}
	}
	return batch, false
}

// enter takes the place of a lane that is idle, if nothing waits; leave gives it
// back.
func (q *queue[T, R]) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.n > 0 || q.idle == 0 {
		return false
	}
	q.idle--
	return true
}

// leave lets the lane rest on, or wakes it for what came meanwhile.
func (q *queue[T, R]) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n > 0 || q.closed {
		q.wake <- struct{}{} // has room, as in add
		return
	}
	q.idle++
}

// line starts the fifo of a key that had nothing waiting, last in the ring.
func (q *queue[T, R]) line(key string) *fifo[T, R] {
	f := q.free
	if f == nil {
		f = new(fifo[T, R])
	} else {
		q.free = f.next
	}
	f.key = key
	q.byKey[key] = f
	q.join(f)
	return f
}

func (q *queue[T, R]) join(f *fifo[T, R]) {
	f.next = nil
	if q.last == nil {
		q.first = f
	} else {
		q.last.next = f
	}
	q.last = f
}

// turn takes one item of the key whose turn it is and sends the key to the
// end of the ring, or away if it has nothing more.
func (q *queue[T, R]) turn() *item[T, R] {
	f := q.first
	if q.first = f.next; q.first == nil {
		q.last = nil
	}
	it := f.pop()
	if f.n > 0 {
		q.join(f)
		return it
	}
	delete(q.byKey, f.key)
	f.key, f.next = "", q.free
	q.free = f
	return it
}

// close refuses new items and wakes every lane.
func (q *queue[T, R]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for ; q.idle > 0; q.idle-- {
		q.wake <- struct{}{}
	}
}

func (q *queue[T, R]) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}
