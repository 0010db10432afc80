package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Children race for slices of one parent over two instances, use them, end
// while their actions are under way, some twice and some of them never settled:
// exactly what fits is handed out, it comes back once, and the parent is left
// with what its children spent and nothing held.
func TestSlicesAreHandedOutAndReturnedOnce(t *testing.T) {
	t.Parallel()
	const children, each, fit = 30, 100, 10
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	at := []*instance{start(t, d, lane.Options{MaxBatch: 8}), start(t, d, lane.Options{MaxBatch: 8})}
	root := catalog.EnvelopeLimits{EnvelopeID: uuid.NewString(), Limits: nano(each * fit * 2)}
	parent := catalog.EnvelopeLimits{EnvelopeID: uuid.NewString(), Limits: nano(each * fit), Slice: true}
	parentID := ledger.Ref{Tenant: tenant, ID: uuid.MustParse(parent.EnvelopeID)}
	if a := must(t, at[0], (&ledger.TakeSlice{Ref: parentID, Own: parent, Above: []catalog.EnvelopeLimits{root}}).Seal()); !a.Granted {
		t.Fatalf("%+v", a)
	}

	var taken, spent atomic.Int64
	var all sync.WaitGroup
	for i := range children {
		all.Go(func() {
			ref := ledger.Ref{Tenant: tenant, ID: uuid.New()}
			own := catalog.EnvelopeLimits{EnvelopeID: ref.ID.String(), Limits: nano(each), Slice: true}
			in := at[i%2]
			take := func() (ledger.Answer, error) {
				return in.Do(t.Context(), (&ledger.TakeSlice{Ref: ref, Own: own, Above: []catalog.EnvelopeLimits{parent, root}}).Seal())
			}
			a, err := take()
			if err != nil {
				t.Error(err)
				return
			}
			if !a.Granted {
				must(t, in, &ledger.ReturnSlice{Ref: ref})
				return
			}
			taken.Add(1)
			var acts sync.WaitGroup
			for n := range 8 {
				acts.Go(func() {
					in := at[n%2]
					r := hold(tenant, 20)
					r.Envelopes = []catalog.EnvelopeLimits{own, parent, root}
					a, err := in.Do(t.Context(), r.Seal())
					if err != nil || !a.Granted {
						if err != nil {
							t.Error(err)
						}
						return
					}
					if n == 7 {
						return // never settled: the sweep gives it back
					}
					c, err := in.Do(t.Context(), settle(r.Ref, int64(10+n)))
					if err != nil {
						t.Error(err)
					}
					spent.Add(c.Amounts[0])
				})
				if n == 5 { // it ends while its actions are under way, and is told so twice
					for _, in := range at {
						acts.Go(func() {
							if _, err := in.Do(t.Context(), &ledger.ReturnSlice{Ref: ref}); err != nil {
								t.Error(err)
							}
						})
					}
				}
			}
			acts.Wait()
			if _, err := take(); !fault.HasReason(err, ledger.ReasonEnded) {
				t.Errorf("taken again after it ended: %v", err)
			}
		})
	}
	all.Wait()
	balanced(t, d)
	elapse(t, d)
	if err := sweeper(at[0]).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := taken.Load(); n < fit {
		t.Errorf("%d slices were taken, want at least the %d that fit at once", n, fit)
	}
	stands := func(l catalog.EnvelopeLimits, wantHeld, wantSpent int64) {
		t.Helper()
		if s, h := counters(t, d, tenant, catalog.EnvelopeBudget(l.EnvelopeID)); s != wantSpent || h != wantHeld {
			t.Errorf("%s: spent %d, held %d; want %d and %d", l.EnvelopeID, s, h, wantSpent, wantHeld)
		}
	}
	stands(parent, 0, spent.Load())
	stands(root, max(each*fit-spent.Load(), 0), spent.Load())
	must(t, at[1], &ledger.ReturnSlice{Ref: parentID})
	stands(root, 0, spent.Load())
	if n := dbtest.Count(t, d, fmt.Sprintf(`select count(*) from fulcrum.budget_windows where budget_id = '%s' and cost_nano_over > 0`, catalog.EnvelopeBudget(root.EnvelopeID))); n != 0 {
		t.Error("the root is overspent")
	}
	balanced(t, d)
}
