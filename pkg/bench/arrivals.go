package bench

import (
	"context"
	"sync"
	"time"
)

// Arrivals calls do at a steady rate for as long as d, whatever the calls take,
// and returns their times from when each was due, sorted. So a call that waits
// for a worker counts its wait: a closed loop would hide it. It returns the
// first error, and stops at it.
func Arrivals(ctx context.Context, perSecond int, d time.Duration, workers int, do func(ctx context.Context, i int) error) ([]time.Duration, error) {
	s := NewSchedule(perSecond, d)
	p := &pool{most: workers}
	p.do = func(i int) {
		err := do(ctx, i)
		if err != nil {
			s.Fail(err)
			p.stop()
		}
		s.Done(i)
	}
	took, err := s.Run(ctx, p.begin)
	p.stop()
	p.all.Wait()
	return took, err
}

// pool calls do on as few goroutines as there are calls at a time. The one that
// was busy last is first, for its stack is still at hand: when thousands take
// turns, each finds its own gone from the processor's caches.
type pool struct {
	do   func(i int)
	most int // goroutines

	mu      sync.Mutex // guards the rest
	started int
	idle    []chan int
	waiting []int // first come, first served
	stopped bool  // nothing more begins
	all     sync.WaitGroup
}

// begin calls do with i as soon as there is a goroutine, unless stopped, and does
// not wait.
func (p *pool) begin(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch n := len(p.idle); {
	case p.stopped:
	case n > 0:
		p.idle[n-1] <- i // has room
		p.idle = p.idle[:n-1]
	case p.started < p.most:
		p.started++
		p.all.Go(func() { p.work(i) })
	default:
		p.waiting = append(p.waiting, i)
	}
}

func (p *pool) work(i int) {
	mine := make(chan int, 1)
	for more := true; more; {
		p.do(i)
		if i, more = p.next(mine); !more {
			i, more = <-mine
		}
	}
}

// next is what waits, if anything does. Else begin, or stop, uses the channel.
func (p *pool) next(mine chan int) (i int, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		close(mine)
	case len(p.waiting) > 0:
		i, p.waiting = p.waiting[0], p.waiting[1:]
		return i, true
	default:
		p.idle = append(p.idle, mine)
	}
	return 0, false
}

// stop begins nothing more, not what waits either.
func (p *pool) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, idle := range p.idle {
		close(idle)
	}
	p.idle = nil
}
