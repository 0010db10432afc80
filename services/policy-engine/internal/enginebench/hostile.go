package enginebench

import (
	"context"
	"slices"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/hostile"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

const (
	// hostileRate is how many requests a second the hostile tenant makes. Each asks
	// for one policy of the corpus in turn.
	hostileRate   = 50
	hostileRounds = 7
	victimRate    = 1000
	goalBeside    = 1.25
)

// attack is a policy of the hostile tenant that passes its upload, and the facts
// it is at its worst on.
type attack struct {
	id    string
	facts *policyenginev1.Facts
}

// attacks returns what of the corpus compiles, as one bundle's policies.
func attacks() (policies []*policyv1.Policy, all []attack, err error) {
	corpus, err := hostile.Corpus()
	if err != nil {
		return nil, nil, err
	}
	compiler := policy.NewCompiler(nil)
	for _, h := range corpus {
		p := &policyv1.Policy{PolicyId: h.Name, Version: 1, Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, Rego: h.Text}
		if slices.ContainsFunc(compiler.Validate(p), func(p policy.Problem) bool { return !p.Warning }) {
			continue
		}
		facts, err := hostile.Facts(h.Input)
		if err != nil {
			return nil, nil, err
		}
		policies, all = append(policies, p), append(all, attack{h.Name, facts})
	}
	return policies, all, nil
}

// besideHostile asks for a tenant with plain rules, alone and beside a tenant
// that goes through the hostile corpus, in turn. A round's two halves are compared
// with each other, and the median of the rounds counts.
func besideHostile(ctx context.Context) ([]bench.Line, error) {
	policies, all, err := attacks()
	if err != nil {
		return nil, err
	}
	e, err := newEngineOf(ctx, 2, func(id string, i int) *configv1.PolicyBundle {
		if i == 0 {
			return workload.Bundle(id, 1, workload.Mixed(10))
		}
		return &configv1.PolicyBundle{TenantId: id, Version: 1, Policies: policies}
	})
	if err != nil {
		return nil, err
	}
	defer e.close()
	const during = 4 * time.Second
	victim := func(ctx context.Context, _ int) error { return e.decide(ctx, e.tenants[0]) }
	hostile := func(ctx context.Context, i int) error {
		a := all[i%len(all)]
		set, _, err := e.table.Set(ctx, e.tenants[1], 0)
		if err != nil {
			return err
		}
		_, err = set.Evaluate(ctx, policy.Request{Facts: a.facts, Only: []string{a.id}})
		return err
	}
	half := func(attacked bool) ([]time.Duration, error) {
		done := make(chan error, 1)
		if attacked {
			go func() {
				_, err := bench.Arrivals(ctx, hostileRate, during, 4, hostile)
				done <- err
			}()
		} else {
			done <- nil
		}
		took, err := bench.Arrivals(ctx, victimRate, during, tailWorkers, victim)
		if over := <-done; over != nil {
			return nil, over
		}
		return took, err
	}
	var p50, p99 []pair
	for round := range hostileRounds {
		halves := map[bool][]time.Duration{}
		for _, attacked := range []bool{round%2 == 0, round%2 != 0} {
			if halves[attacked], err = half(attacked); err != nil {
				return nil, err
			}
		}
		at := func(q float64) pair {
			return pair{bench.Quantile(halves[false], q), bench.Quantile(halves[true], q)}
		}
		p50, p99 = append(p50, at(0.5)), append(p99, at(0.99))
	}
	return []bench.Line{
		middlePair(p50).line("1000/s of one tenant, p50, beside 50/s of the hostile corpus", 0),
		middlePair(p99).line("1000/s of one tenant, p99, beside 50/s of the hostile corpus", goalBeside),
	}, nil
}

// pair is the same figure of the two halves of a round.
type pair struct{ alone, beside time.Duration }

func (p pair) rise() float64 { return float64(p.beside) / float64(p.alone) }

func (p pair) line(name string, goal float64) bench.Line {
	return bench.AtMost(name, µs(p.beside), µs(p.alone), "µs", goal)
}

// middlePair is the one of the median rise.
func middlePair(ps []pair) pair {
	slices.SortFunc(ps, func(a, b pair) int {
		switch {
		case a.rise() < b.rise():
			return -1
		case a.rise() > b.rise():
			return 1
		}
		return 0
	})
	return ps[len(ps)/2]
}
