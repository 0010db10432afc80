// Package groupcommit commits together what concurrent callers ask for one by
// one.
//
// There is no timer: a batch is whatever queued up while the last one was in
// flight. Alone, a caller waits for its own flush only; under load, batches
// grow until the queue keeps up.
package groupcommit

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Result answers one item of a batch.
type Result[R any] struct {
	Value R
	Err   error
}

// Flush commits a batch and answers its items in the same order. An error, or
// a panic, answers all of them, and means that nothing was committed or that
// nobody knows. The batch is reused: keep nothing of it after returning.
type Flush[T, R any] func(ctx context.Context, batch []T) ([]Result[R], error)

// Options bound a Loop. Zero values mean the defaults.
type Options struct {
	MaxBatch int           // items in one flush; 256
	MaxQueue int           // items waiting, over all lanes; 8192
	MaxKey   int           // items waiting of one key of FairBy; half of a lane's share of MaxQueue
	Lanes    int           // flushes in flight at a time; 1
	Timeout  time.Duration // of one flush; 10 s

	// Isolate flushes a failed batch again item by item, so that one bad item
	// does not fail its neighbours. The flush must then be atomic: after an
	// error nothing of the batch is done. Errors that say nothing about the
	// items (fault.Down, fault.Deadline, a dead context) are not isolated.
	Isolate bool

	// Lead lets a caller of Do who finds a lane at rest flush by itself, in its own
	// goroutine: two changes of goroutine less, which on few processors are a good
	// part of what a lone call takes. The price: it waits for that flush even
	// beyond its own deadline: for Timeout, and until the flush takes notice of that.
	// Take it where somebody else keeps the deadline, as a gRPC client does.
	Lead bool

	// Full is what a full queue answers; nil: a fault.Down that says when to
	// ask again.
	Full error

	// OnFlush is told of every flush, by who made it; at most Lanes at a time.
	OnFlush func(items int, took time.Duration, err error)
}

// Loop collects items and flushes them. Run must be running for Do to be
// answered.
type Loop[T, R any] struct {
	flush Flush[T, R]
	o     Options
	key   func(T) string
	seed  maphash.Seed
	lanes []*queue[T, R]  // one for all without keys, one per lane with keys
	pool  sync.Pool       // of *item[T, R] that nobody else refers to
	ctx   context.Context // of every flush; set by Run before any lane rests
}

// New returns a Loop. It does nothing until Run.
func New[T, R any](flush Flush[T, R], o Options) *Loop[T, R] {
	o.MaxBatch = or(o.MaxBatch, 256)
	o.MaxQueue = or(o.MaxQueue, 8192)
	o.Lanes = or(o.Lanes, 1)
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Full == nil {
		o.Full = errFull
	}
	l := &Loop[T, R]{flush: flush, o: o, seed: maphash.MakeSeed()}
	l.pool.New = func() any { return &item[T, R]{done: make(chan Result[R], 1)} }
	l.lanes = []*queue[T, R]{newQueue[T, R](o.MaxQueue, o.Lanes, o.Full)}
	return l
}

// FairBy makes batches take turns between the keys that wait, so that nobody
// is starved by a busy neighbour. Items of one key keep their order and never
// share the air: they all go through one lane. Call it before Run and Do.
func (l *Loop[T, R]) FairBy(key func(T) string) *Loop[T, R] {
	l.key = key
	l.lanes = l.lanes[:0]
	for range l.o.Lanes {
		q := newQueue[T, R](max(l.o.MaxQueue/l.o.Lanes, 1), 1, l.o.Full)
		q.byKey, q.maxKey = make(map[string]*fifo[T, R]), or(l.o.MaxKey, max(q.max/2, 1))
		l.lanes = append(l.lanes, q)
	}
	return l
}

// Do queues v and waits for its answer.
//
// A full queue answers Options.Full at once, a Loop that has stopped a
// fault.Down. If ctx ends before the batch of v starts, v is never flushed. If it ends later, Do
// returns ctx's error and the outcome is unknown to the caller, who may ask
// again with the same idempotency key; see Options.Lead for the exception.
func (l *Loop[T, R]) Do(ctx context.Context, v T) (R, error) {
	var none R
	if err := ctx.Err(); err != nil {
		return none, err
	}
	q, key := l.place(v)
	if l.o.Lead && q.enter() {
		return l.lead(q, v)
	}
	it := l.item(ctx, v)
	it.queue = q
	if err := q.push(it, key); err != nil {
		l.recycle(it)
		return none, err
	}
	return l.await(it)
}

// StartAll queues many like Do and does not wait: wait is the rest of Do for
// the item at i, at most once for each; who does not want its answer leaves it.
// refused says at once why the item at i was not queued, and is nil for one that was.
// They are queued together, so that they share as few flushes as their number and
// the fairness between keys allow, and one that is refused takes nobody along.
// ctx is of all of them, unless own is there and says which one an item has for
// itself.
//
// What one goroutine starts after another thing of the same key, before it in
// vs or in an earlier call, is flushed after it, or with it, if there is one
// lane or FairBy.
func (l *Loop[T, R]) StartAll(ctx context.Context, vs []T, own func(i int) context.Context) (wait func(i int) (R, error), refused func(i int) error) {
	all := make([]started[T, R], len(vs))
	for i, v := range vs {
		of := ctx
		if own != nil {
			of = own(i)
		}
		s := &all[i]
		if s.err = of.Err(); s.err != nil {
			continue
		}
		s.item = l.item(of, v)
		s.item.queue, s.key = l.place(v)
	}
	for _, q := range l.lanes {
		q.pushAll(func(push func(*item[T, R], string) error) {
			for i := range all {
				if s := &all[i]; s.item != nil && s.item.queue == q {
					s.err = push(s.item, s.key)
				}
			}
		})
	}
	wait = func(i int) (none R, _ error) {
		s := all[i]
		if s.err == nil {
			return l.await(s.item)
		}
		if s.item != nil {
			l.recycle(s.item)
		}
		return none, s.err
	}
	return wait, func(i int) error { return all[i].err }
}

// started is an item on its way into a queue; neither, if its context was over.
type started[T, R any] struct {
	item *item[T, R]
	key  string
	err  error // why it was not queued
}

// DoAll is Do for many at once, queued as by StartAll. Each has its own result,
// in the order of vs.
func (l *Loop[T, R]) DoAll(ctx context.Context, vs []T) []Result[R] {
	wait, _ := l.StartAll(ctx, vs, nil)
	out := make([]Result[R], len(vs))
	for i := range out {
		out[i].Value, out[i].Err = wait(i)
	}
	return out
}

func (l *Loop[T, R]) item(ctx context.Context, v T) *item[T, R] {
	it := l.pool.Get().(*item[T, R])
	it.value, it.ctx = v, ctx
	return it
}

// place says where v queues, and under which key.
func (l *Loop[T, R]) place(v T) (*queue[T, R], string) {
	if l.key == nil {
		return l.lanes[0], ""
	}
	key := l.key(v)
	return l.lanes[maphash.String(l.seed, key)%uint64(len(l.lanes))], key
}

// Run flushes until ctx ends. Then new items are refused, those already queued
// are flushed, and Run returns nil. It must be called once.
func (l *Loop[T, R]) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		for _, q := range l.lanes {
			q.close()
		}
	})
	defer stop()

	l.ctx = context.WithoutCancel(ctx)
	var g errgroup.Group
	for i := range l.o.Lanes {
		g.Go(func() error {
			l.lane(l.ctx, l.lanes[i%len(l.lanes)])
			return nil
		})
	}
	return g.Wait()
}

// Len is the number of items waiting.
func (l *Loop[T, R]) Len() (n int) {
	for _, q := range l.lanes {
		n += q.len()
	}
	return n
}

func (l *Loop[T, R]) recycle(it *item[T, R]) {
	var none T
	it.value, it.ctx, it.queue = none, nil, nil
	it.state.Store(unawaited)
	l.pool.Put(it)
}

// errFull and errClosed are shared: refusing must cost nothing.
var (
	errFull = fault.New(fault.Down, "too many requests are waiting").
		WithReason("OVERLOADED").WithRetry(time.Second)
	errClosed = fault.New(fault.Down, "the service is stopping").
			WithReason("STOPPING").WithRetry(time.Second)
)

func or(v, def int) int {
	if v > 0 {
		return v
	}
	return def
}
