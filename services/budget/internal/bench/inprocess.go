package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/events"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/upkeep"
)

// inProcess is the ledger as the service runs it, without gRPC.
type inProcess struct {
	*lane.Lane
	db   *db.DB
	stop func() error
}

func (s *server) ledger(ctx context.Context) (*inProcess, error) {
	upkeep.PaceCollector()
	pool, err := db.Open(ctx, s.app, db.Options{Service: "budget", MaxConns: 10})
	if err != nil {
		return nil, err
	}
	store := postgres.New(pool, postgres.NewCatalogs(pool, slog.New(slog.DiscardHandler)), postgres.Options{Outbox: outbox.Append, Encode: events.Encode})
	l := &inProcess{Lane: lane.New(store, lane.Options{}), db: pool}
	running, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return l.Run(running) })
	l.stop = func() error {
		cancel()
		err := g.Wait()
		pool.Close()
		return err
	}
	return l, nil
}

func (l *inProcess) hold(t *tree) func(context.Context) error {
	return func(ctx context.Context) error { return granted(l.Do(ctx, t.any().Seal())) }
}

// cycle holds and settles.
func (l *inProcess) cycle(t *tree) func(context.Context) error {
	return func(ctx context.Context) error {
		op := t.any().Seal()
		if err := granted(l.Do(ctx, op)); err != nil {
			return err
		}
		_, err := l.Do(ctx, (&ledger.Settle{Ref: op.Ref, Key: "bench", Usage: &ledger.Usage{Cost: money.Nano(1), CostKnown: true}}).Seal())
		return err
	}
}

// The goals.
const (
	timesPlain   = 30     // holds a second on the hot path at 64 callers, to the plain form
	timesCommit  = 2.5    // median at one caller, to an empty durable commit
	holdsASecond = 20_000 // in process
	cyclesPerSec = 10_000 // in process
	timesGrown   = 1.5    // cost of a hold with many budgets, to few
	slowestMS    = 10     // p99 at the highest rate, through gRPC
	mostFailed   = 0.1    // of a hundred holds there: to fail fast is not to be fast
)

// hot measures one path that everybody wants.
func hot(ctx context.Context, s *server, p plan, progress io.Writer) ([]bench.Line, error) {
	t, err := grow(ctx, s, 1, 1)
	if err != nil {
		return nil, err
	}
	return closed(ctx, s, p, progress, t, []int{1, 8, 64, mostCallers}, "one hot path")
}

// spread measures a thousand agents' budgets of ten tenants.
func spread(ctx context.Context, s *server, p plan, progress io.Writer) ([]bench.Line, error) {
	t, err := grow(ctx, s, 10, 1000)
	if err != nil {
		return nil, err
	}
	return closed(ctx, s, p, progress, t, []int{1, 64, mostCallers}, "1,000 budgets")
}

// closed measures the plain form and the ledger in turns.
func closed(ctx context.Context, s *server, p plan, progress io.Writer, t *tree, callers []int, where string) (lines []bench.Line, err error) {
	l, err := s.ledger(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.stop() }()
	if err := touchAll(t, func(op *ledger.Reserve) error { return granted(l.Do(ctx, op.Seal())) }); err != nil {
		return nil, err
	}
	cases := append(s.cases(t.leaves()), bench.Case{Name: "hold", Do: l.hold(t)}, bench.Case{Name: "cycle", Do: l.cycle(t)})
	for _, n := range callers {
		fmt.Fprintf(progress, "%s, %d callers …\n", where, n)
		r, err := bench.Run(ctx, cases, bench.Options{Callers: n, Rounds: p.rounds, Each: p.each})
		if err != nil {
			return nil, err
		}
		lines = append(lines, figures(r, where, n)...)
	}
	return lines, nil
}

func figures(r map[string]bench.Result, where string, callers int) []bench.Line {
	name := func(what string) string { return fmt.Sprintf("%s, %d callers: %s", where, callers, what) }
	isHot := where == "one hot path"
	goal := func(applies bool, g float64) float64 {
		if applies {
			return g
		}
		return 0
	}
	return []bench.Line{
		bench.AtMost(name("empty durable commit, p50"), ms(r["commit"].P50), 0, "ms", 0),
		bench.AtMost(name("hold, p50, to the commit"), ms(r["hold"].P50), ms(r["commit"].P50), "ms", goal(isHot && callers == 1, timesCommit)),
		bench.AtMost(name("hold, p99"), ms(r["hold"].P99), 0, "ms", 0),
		bench.AtLeast(name("holds, to the plain form"), r["hold"].PerSecond, r["plain"].PerSecond, "/s", goal(isHot && callers == 64, timesPlain)),
		bench.NoLess(name("holds"), r["hold"].PerSecond, "/s", goal(callers == mostCallers, holdsASecond)),
		bench.NoLess(name("hold and settle, cycles"), r["cycle"].PerSecond, "/s", goal(callers == mostCallers, cyclesPerSec)),
	}
}

// growth compares few budgets with many, all of them in use.
func growth(ctx context.Context, s *server, p plan, progress io.Writer) ([]bench.Line, error) {
	fmt.Fprintf(progress, "growing %d budgets …\n", p.many)
	var cases []bench.Case
	for _, n := range []int{few, p.many} {
		t, err := grow(ctx, s, 1, n)
		if err != nil {
			return nil, err
		}
		l, err := s.ledger(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.stop() }()
		if err := touchAll(t, func(op *ledger.Reserve) error { return granted(l.Do(ctx, op.Seal())) }); err != nil {
			return nil, err
		}
		cases = append(cases, bench.Case{Name: fmt.Sprint(n), Do: l.hold(t)})
	}
	fmt.Fprintf(progress, "%d and %d budgets, 64 callers …\n", few, p.many)
	r, err := bench.Run(ctx, cases, bench.Options{Callers: 64, Rounds: p.rounds, Each: 2 * p.each})
	if err != nil {
		return nil, err
	}
	µs := func(r bench.Result) float64 { return 1e6 / r.PerSecond }
	name := fmt.Sprintf("a hold with %d budgets, to %d", p.many, few)
	return []bench.Line{bench.AtMost(name, µs(r[fmt.Sprint(p.many)]), µs(r[fmt.Sprint(few)]), "µs", timesGrown)}, nil
}

// touchAll holds once on every path: the first hold of a window makes its row.
func touchAll(t *tree, hold func(*ledger.Reserve) error) error {
	var g errgroup.Group
	g.SetLimit(512)
	for i := range t.leaves() {
		g.Go(func() error { return hold(t.at(i)) })
	}
	return g.Wait()
}
