package postgres_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/quota"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// learns makes an entry of tenant that adds values to histories.
func learns(tenant uuid.UUID, values map[uuid.UUID]float64) *decision.Entry {
	e := entry(tenant)
	for id, x := range values {
		e.Learns = append(e.Learns, decision.Learned{Baseline: id, Label: "of a test", Value: x})
	}
	return e
}

// seen is what values came to, told by the values themselves.
type seen struct {
	mu     sync.Mutex // guards the rest
	values []float64
}

func (s *seen) add(x float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = append(s.values, x)
}

func (s *seen) meanAndDeviation() (mean, deviation float64) {
	for _, x := range s.values {
		mean += x / float64(len(s.values))
	}
	for _, x := range s.values {
		deviation += (x - mean) * (x - mean) / float64(len(s.values))
	}
	return mean, math.Sqrt(deviation)
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1) }

// Two recorders with several transactions each, four tenants that share the ids of
// their histories, decisions that add to several of them in any order and come
// twice at once, and limits that refuse some: nothing waits for ever, and each
// decision that was recorded counts once, in its own tenant.
func TestEachDecisionIsCountedOnceInItsHistories(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	var recorders []decision.Recorder
	for range 2 {
		_, r := run(t, d, groupcommit.Options{Lanes: 3, MaxBatch: 16})
		recorders = append(recorders, r)
	}
	store, _ := run(t, d, groupcommit.Options{})
	type place struct{ tenant, id uuid.UUID }
	histories := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	counter := uuid.New()
	want := map[place]*seen{}
	var tenants []uuid.UUID
	for range 4 {
		tenant := dbtest.Tenant(t, d)
		tenants = append(tenants, tenant)
		for _, id := range histories {
			want[place{tenant, id}] = &seen{}
		}
	}
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(11, uint64(i)))
			for range 10 {
				tenant := tenants[r.IntN(len(tenants))]
				values := map[uuid.UUID]float64{}
				for _, id := range histories {
					if r.IntN(2) == 0 {
						values[id] = math.Round(1000*r.NormFloat64()) / 8
					}
				}
				first := learns(tenant, values)
				if r.IntN(4) == 0 {
					first.Takes = takes(tenant, map[uuid.UUID]quota.Limit{counter: window(5)}).Takes
				}
				ctx := context.WithoutCancel(t.Context())
				answers := make([]decision.Recorded, 1+r.IntN(3))
				errs := make([]error, len(answers))
				var same sync.WaitGroup
				for n := range answers { // the same request, several times at once
					again, claim := entry(tenant), *first.Claim
					again.Claim, again.Learns, again.Takes = &claim, first.Learns, slices.Clone(first.Takes)
					same.Go(func() { answers[n], errs[n] = recorders[(i+n)%2].Record(ctx, again) })
				}
				same.Wait()
				new, full := 0, 0
				for n, err := range errs {
					switch refused := (*decision.FullError)(nil); {
					case errors.As(err, &refused):
						full++
					case err != nil:
						t.Error(err)
					case answers[n].Stored == nil:
						new++
					}
				}
				if new > 1 || new == 0 && full == 0 {
					t.Errorf("%d of %d were new", new, len(answers))
				}
				if new == 1 {
					for id, x := range values {
						want[place{tenant, id}].add(x)
					}
				}
			}
		})
	}
	all.Wait()
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.limit_entries`); n == 0 {
		t.Error("no limit was taken")
	}
	for p, s := range want {
		got, err := store.Baselines(t.Context(), p.tenant, []uuid.UUID{p.id, uuid.New()})
		if err != nil || len(got) != 1 {
			t.Fatalf("%d histories, %v", len(got), err)
		}
		mean, deviation := s.meanAndDeviation()
		if h := got[p.id]; h.GetSamples() != int64(len(s.values)) || !near(h.GetMean(), mean) || !near(h.GetDeviation(), deviation) {
			t.Errorf("a history is %v, and should be of %d: mean %g, deviation %g", h, len(s.values), mean, deviation)
		}
	}
}

// Old values fade, and whatever numbers come, what they come to is a number, and
// the decision is recorded.
func TestAHistoryIsOfRecentValues(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	store, recorder := run(t, d, groupcommit.Options{})
	history := func(values ...float64) (mean, deviation float64) {
		t.Helper()
		id := uuid.New()
		e := entry(tenant)
		for _, x := range values {
			e.Learns = append(e.Learns, decision.Learned{Baseline: id, Value: x})
		}
		if _, err := recorder.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		got, err := store.Baselines(t.Context(), tenant, []uuid.UUID{id})
		if err != nil || got[id].GetSamples() != int64(len(values)) {
			t.Fatalf("%v, %v", got, err)
		}
		return got[id].GetMean(), got[id].GetDeviation()
	}
	repeated := func(n int, x float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = x
		}
		return out
	}
	if mean, deviation := history(append(repeated(1000, 1_000_000), repeated(2000, 10)...)...); mean < 10 || mean > 100 || deviation > 10_000 {
		t.Errorf("the past weighs too much: mean %g, deviation %g", mean, deviation)
	}
	if mean, deviation := history(repeated(500, 0.1)...); mean != 0.1 || deviation != 0 {
		t.Errorf("what never differed: mean %g, deviation %g", mean, deviation)
	}
	// Far from zero little is lost: the way of sums and squares would lose it all.
	if mean, deviation := history(1e15+1, 1e15+3); mean != 1e15+2 || deviation != 1 {
		t.Errorf("large numbers that differ little: mean %f, deviation %g", mean, deviation)
	}
	for _, hostile := range [][]float64{
		{math.MaxFloat64, -math.MaxFloat64, 0}, {math.Inf(1), math.Inf(-1)}, {math.SmallestNonzeroFloat64, 0, -math.SmallestNonzeroFloat64, 1e-200},
		append([]float64{1e-90}, repeated(3000, 0)...), append([]float64{1, -1}, repeated(3000, math.SmallestNonzeroFloat64)...),
	} {
		mean, deviation := history(hostile...)
		if math.IsNaN(mean) || math.IsInf(mean, 0) || !(deviation >= 0) || math.IsInf(deviation, 0) {
			t.Errorf("%g and so on: mean %g, deviation %g", hostile[:2], mean, deviation)
		}
	}
	nothing := learns(tenant, map[uuid.UUID]float64{uuid.New(): math.NaN()})
	if _, err := recorder.Record(t.Context(), nothing); err != nil {
		t.Error(err)
	}
}

// A history that nothing was added to for a month is forgotten, and no other.
func TestIdleHistoriesAreForgotten(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	store, recorder := run(t, d, groupcommit.Options{})
	idle := uuid.New()
	for range 3 {
		tenant := dbtest.Tenant(t, d)
		if _, err := recorder.Record(t.Context(), learns(tenant, map[uuid.UUID]float64{idle: 1, uuid.New(): 2})); err != nil {
			t.Fatal(err)
		}
	}
	dbtest.Admin(t, d, `update fulcrum.baselines set touched_on = current_date - 31 where id = '`+idle.String()+`'`)
	dbtest.Admin(t, d, `update fulcrum.baselines set touched_on = current_date - 29 where id <> '`+idle.String()+`'`)
	if err := store.ForgetBaselines(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.baselines where id = '`+idle.String()+`'`); n != 0 {
		t.Errorf("%d idle ones are left", n)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.baselines`); n != 3 {
		t.Errorf("%d of 3 others are left", n)
	}
}
