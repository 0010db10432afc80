package bench

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
)

const (
	share      = 8  // callers of each of two tenants
	timesShare = 10 // what one of them then takes
	timesSlow  = 2  // the other's p99, to when both took their share
)

// fairness measures what a tenant notices of another's crowd.
func fairness(ctx context.Context, s *server, p plan, progress io.Writer) ([]bench.Line, error) {
	fmt.Fprintf(progress, "a neighbour with %d times its share …\n", timesShare)
	calm, err := grow(ctx, s, 1, 10)
	if err != nil {
		return nil, err
	}
	crowded, err := grow(ctx, s, 1, 10)
	if err != nil {
		return nil, err
	}
	l, err := s.ledger(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.stop() }()
	p99 := map[int][]float64{}
	for range p.rounds {
		for _, times := range []int{1, timesShare} {
			stop := crowd(ctx, l.hold(crowded), times*share)
			r, err := bench.Run(ctx, []bench.Case{{Name: "calm", Do: l.hold(calm)}}, bench.Options{Callers: share, Rounds: 1, Each: p.each})
			stop()
			if err != nil {
				return nil, err
			}
			p99[times] = append(p99[times], ms(r["calm"].P99))
		}
	}
	name := fmt.Sprintf("hold, p99, while another tenant takes %d times its share", timesShare)
	return []bench.Line{bench.AtMost(name, middle(p99[timesShare]), middle(p99[1]), "ms", timesSlow)}, nil
}

// crowd keeps so many callers busy until it is told to stop.
func crowd(ctx context.Context, do func(context.Context) error, callers int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = do(ctx) // only its weight counts
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
