package enginebench

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

const (
	tailRate    = 5000 // decisions a second, whatever the machine manages
	tailTenants = 500
	tailWorkers = 2
	tailCallers = 64 // through gRPC, where a call mostly waits
	tailFor     = 3 * time.Second
	tailRounds  = 7
)

// arrival is a way to spend the time of a decision.
type arrival struct {
	name, floor string
	workers     int
	do          func(ctx context.Context, i int) error
}

// tail decides at a steady rate for many tenants that share nothing, in process
// and through gRPC. In turn with them the same arrivals only compute, and only
// cross gRPC: what those wait is the machine's, not the engine's.
func tail(ctx context.Context) ([]bench.Line, error) {
	e, err := newEngine(ctx, tailTenants, func(i int) []*policyv1.PolicyRule {
		own := workload.Mixed(10)
		own[0].Conditions[0].Value = &policyv1.PolicyCondition_StringValue{StringValue: fmt.Sprint("own", i)}
		return own
	})
	if err != nil {
		return nil, err
	}
	defer e.close()
	answer, err := e.client.Evaluate(identity.With(ctx, identity.System(e.tenants[0])), &policyenginev1.EvaluateRequest{Facts: e.facts})
	if err != nil {
		return nil, err
	}
	echo, err := newEcho(answer)
	if err != nil {
		return nil, err
	}
	defer echo.close()
	work := spinning(20 * time.Microsecond)
	tenant := func(i int) uuid.UUID { return e.tenants[i%tailTenants] }
	all := []arrival{
		{"in process", "spin", tailWorkers, func(ctx context.Context, i int) error { return e.decide(ctx, tenant(i)) }},
		{"spin", "", tailWorkers, func(context.Context, int) error { work(); return nil }},
		{"through gRPC", "echo", tailCallers, func(ctx context.Context, i int) error { return e.call(ctx, tenant(i)) }},
		{"echo", "", tailCallers, func(ctx context.Context, _ int) error { return echo.call(ctx, e.facts) }},
	}
	return quantiles(ctx, all)
}

// quantiles takes all in turn, round after round. Of each quantile the median of
// the rounds counts, so that neither a lucky round nor a disturbed one decides.
func quantiles(ctx context.Context, all []arrival) ([]bench.Line, error) {
	at := []float64{0.5, 0.99, 0.999}
	found := map[string][][]time.Duration{}
	for _, a := range all {
		found[a.name] = make([][]time.Duration, len(at))
	}
	for range tailRounds {
		for _, a := range all {
			took, err := bench.Arrivals(ctx, tailRate, tailFor, a.workers, a.do)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.name, err)
			}
			for i, q := range at {
				found[a.name][i] = append(found[a.name][i], bench.Quantile(took, q))
			}
		}
	}
	var lines []bench.Line
	for _, a := range all {
		for i, q := range at {
			if a.floor == "" {
				continue
			}
			name := fmt.Sprintf("%d/s over %d tenants, %s, p%g", tailRate, tailTenants, a.name, q*100)
			l := bench.AtMost(name, µs(middle(found[a.name][i])), µs(middle(found[a.floor][i])), "µs", 0)
			if q == 0.99 {
				l.Goal, l.OK = fmt.Sprintf("≤ %d µs", tailGoal), l.Value <= tailGoal
			}
			lines = append(lines, l)
		}
	}
	return lines, nil
}

func middle(ds []time.Duration) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[len(ds)/2]
}

// spinning returns work that takes about d, measured now.
func spinning(d time.Duration) func() {
	n := 1000
	var sum atomic.Int64 // keeps the compiler from leaving the work out
	for {
		began := time.Now()
		sum.Add(spin(n))
		if took := time.Since(began); took > d {
			break
		}
		n += n / 4
	}
	return func() { sum.Add(spin(n)) }
}

//go:noinline
func spin(n int) (sum int64) {
	for i := range n {
		sum += int64(i * i)
	}
	return sum
}
