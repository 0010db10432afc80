package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// rates measures holds that come at a fixed rate, whether or not earlier ones
// were answered. Each takes from when it was due, so that a stall is seen by
// all who would have come during it.
func rates(ctx context.Context, s *server, p plan, progress io.Writer) (lines []bench.Line, err error) {
	// The load has the two processors of what it measures, so it collects its
	// garbage between the rounds, and does not interrupt the others.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(4 << 30))
	to, err := s.process(ctx, progress)
	if err != nil {
		return nil, err
	}
	defer to.stop()
	undo, err := bench.AsBatch()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, undo()) }()
	lines, err = s.floor(ctx, p, to, progress)
	if err != nil {
		return nil, err
	}
	for _, over := range []struct {
		name            string
		tenants, leaves int
	}{{"one hot path", 1, 1}, {"1,000 budgets", 10, 1000}} {
		if err := s.tidy(ctx); err != nil {
			return nil, err
		}
		t, err := grow(ctx, s, over.tenants, over.leaves)
		if err != nil {
			return nil, err
		}
		if err := touchAll(t, func(op *ledger.Reserve) error { return hold(ctx, to.client, op) }); err != nil {
			return nil, err
		}
		for _, by := range []struct {
			name string
			open arrive
		}{{"a call each", openCalls}, {"streams", openStreams}, {"many a call", openMany}} {
			for _, rate := range []int{1000, 5000, goalRate} {
				name := fmt.Sprintf("%s, %d/s through gRPC, %s: hold, ", over.name, rate, by.name)
				fmt.Fprintf(progress, "%s, %d holds a second through gRPC, %s …\n", over.name, rate, by.name)
				more, err := atRate(name, p, rate, func() ([]time.Duration, int64, error) { return by.open(ctx, to, t, rate, p.rate) })
				if err != nil {
					return nil, err
				}
				lines = append(lines, more...)
			}
		}
	}
	return lines, nil
}

// floor measures, at the highest rate, calls to the same process that do nothing,
// and beside them empty durable commits, of which there are as few as not to be
// felt: what gRPC and the disk leave of the goal.
func (s *server) floor(ctx context.Context, p plan, to *process, progress io.Writer) ([]bench.Line, error) {
	const rate, commits = goalRate, 100
	fmt.Fprintf(progress, "%d empty calls a second through gRPC, and %d empty commits …\n", rate, commits)
	var slowest []float64 // commits of each round
	lines, err := atRate(fmt.Sprintf("%d/s through gRPC, empty calls: ", rate), p, 0, func() ([]time.Duration, int64, error) {
		var g errgroup.Group
		g.Go(func() error {
			took, err := bench.Arrivals(ctx, commits, p.rate, 16, func(ctx context.Context, _ int) error { return s.commit(ctx) })
			if err == nil {
				slowest = append(slowest, ms(took[len(took)*99/100]))
			}
			return err
		})
		took, err := openEmpty(ctx, to, rate, p.rate)
		return took, 0, errors.Join(err, g.Wait())
	})
	if err != nil {
		return nil, err
	}
	return append(lines, bench.NoMore("an empty durable commit beside them, p99", middle(slowest), "ms", 0)), nil
}

// arrive sends holds at a rate for a while and returns how long each took,
// sorted, and how many failed: a machine that is too slow turns them away.
type arrive func(ctx context.Context, to *process, t *tree, rate int, long time.Duration) ([]time.Duration, int64, error)

// goalRate is the one that the goals are of.
const goalRate = 10_000

// atRate is the medians of some rounds, after one that warms up.
func atRate(name string, p plan, rate int, round func() ([]time.Duration, int64, error)) ([]bench.Line, error) {
	var p50, p99, failures []float64
	rounds := min(p.rounds, 3)
	if rate == goalRate {
		rounds = p.rounds
	}
	for n := range 1 + rounds {
		runtime.GC()
		took, failed, err := round()
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		failures = append(failures, 100*float64(failed)/float64(len(took)))
		p50, p99 = append(p50, ms(took[len(took)/2])), append(p99, ms(took[len(took)*99/100]))
	}
	slowest, failed := 0.0, 0.0
	if rate == goalRate {
		slowest, failed = slowestMS, mostFailed
	}
	return []bench.Line{
		bench.NoMore(name+"p50", middle(p50), "ms", 0), bench.NoMore(name+"p99", middle(p99), "ms", slowest), bench.NoMore(name+"failed", middle(failures), "%", failed),
	}, nil
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func hold(ctx context.Context, client budgetv1.LedgerServiceClient, op *ledger.Reserve) error {
	a, err := client.Reserve(identity.With(ctx, identity.System(op.Tenant)), asked(op))
	if err == nil && !onPath(a) {
		err = fmt.Errorf("held in %d budgets instead of 3: %s", len(a.GetHold().GetBudgets()), a.GetMessage())
	}
	return err
}

// asked is op as a caller asks for it.
func asked(op *ledger.Reserve) *budgetv1.ReserveRequest {
	return &budgetv1.ReserveRequest{
		ReservationId: op.ID.String(), Amounts: &governancev1.Amounts{CostNano: 1},
		Subject: &budgetv1.Subject{AgentId: op.Subject.AgentID, Team: op.Subject.Team},
	}
}
