package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
)

// holdsWeighed is how many holds the processor's time is measured over.
const holdsWeighed = 10_000

// cost measures the processor's time that a hold takes, ours and PostgreSQL's.
// Unlike the other parts it means something on a machine that is busy with other
// work, too.
func cost(ctx context.Context, s *server, p plan, progress io.Writer) (lines []bench.Line, err error) {
	for _, where := range []struct {
		name            string
		tenants, leaves int
	}{{"one hot path", 1, 1}, {"1,000 budgets", 10, 1000}} {
		t, err := grow(ctx, s, where.tenants, where.leaves)
		if err != nil {
			return nil, err
		}
		l, err := s.ledger(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.stop() }()
		for _, what := range []struct {
			name string
			do   func(context.Context) error
		}{{"hold", l.hold(t)}, {"hold and settle", l.cycle(t)}} {
			for _, callers := range []int{1, 64} {
				n := holdsWeighed
				if callers == 1 {
					n /= 20
				}
				fmt.Fprintf(progress, "%s, %s, %d callers …\n", where.name, what.name, callers)
				var ours, theirs []float64
				for round := range 1 + p.rounds {
					o, th, err := s.weigh(ctx, what.do, callers, n)
					if err != nil {
						return nil, err
					}
					if round > 0 { // the first warms up
						ours, theirs = append(ours, o), append(theirs, th)
					}
				}
				name := fmt.Sprintf("%s, %d callers: %s, processor time ", where.name, callers, what.name)
				lines = append(lines, bench.NoMore(name+"here", middle(ours), "µs", 0), bench.NoMore(name+"in PostgreSQL", middle(theirs), "µs", 0))
			}
		}
	}
	return lines, nil
}

// weigh returns the microseconds of processor time that each of n calls took in
// this process and in PostgreSQL's.
func (s *server) weigh(ctx context.Context, do func(context.Context) error, callers, n int) (ours, theirs float64, err error) {
	before, beforeHere, err := s.busy(ctx)
	if err != nil {
		return 0, 0, err
	}
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	var failed atomic.Value
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(ctx); err != nil {
					failed.Store(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err, _ := failed.Load().(error); err != nil {
		return 0, 0, err
	}
	after, afterHere, err := s.busy(ctx)
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }
	return each(afterHere - beforeHere), each(after - before), err
}

// busy is how long PostgreSQL's processes and this one have had a processor.
func (s *server) busy(ctx context.Context) (postgres, here time.Duration, err error) {
	rows, err := s.plain.Query(ctx, `select pid from pg_stat_activity where pid <> pg_backend_pid()`)
	if err != nil {
		return 0, 0, err
	}
	var pid int
	var ns int64
	for rows.Next() {
		if err := rows.Scan(&pid); err != nil {
			return 0, 0, err
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			continue // gone meanwhile
		}
		if _, err := fmt.Sscan(string(raw), &ns); err != nil {
			return 0, 0, err
		}
		postgres += time.Duration(ns)
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0, err
	}
	return postgres, time.Duration(u.Utime.Nano() + u.Stime.Nano()), rows.Err()
}
