package postgres_test

import (
	"fmt"
	"testing"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Batches of many sizes, one with more windows than are kept for the next batch, each
// find the balances that the one before left.
func TestBatchesOfAnySizeAreDecidedFromMemory(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	const agents = 1100
	budgets := []*costv1.Budget{dollars("all", 100)}
	for n := range agents {
		b := dollars(fmt.Sprint("agent ", n), 1)
		b.Scope = &costv1.BudgetScope{AgentId: fmt.Sprint("a", n)}
		budgets = append(budgets, b)
	}
	publish(t, d, tenant, budgets...)
	in := start(t, d, lane.Options{})
	flush := func(n int) []ledger.Op {
		t.Helper()
		ops := make([]ledger.Op, n)
		for i := range ops {
			r := hold(tenant, 1)
			r.Subject.AgentID = fmt.Sprint("a", i)
			ops[i] = r.Seal()
		}
		results, err := in.store.Flush(t.Context(), ops)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Err != nil || !r.Value.Held || len(r.Value.States) != 2 {
				t.Fatalf("hold %d of %d: %+v", i, n, r)
			}
		}
		return ops
	}
	flush(agents) // looks everything up
	for _, n := range []int{3, agents, 1, 40} {
		flush(n)
	}
	if failed, held := in.fast[0].Load(), in.fast[1].Load(); failed != 0 || held != 4 {
		t.Errorf("%d batches decided from memory failed and %d held, want 0 and 4", failed, held)
	}
	for budget, want := range map[string]int64{"all": 2*agents + 44, "agent 0": 5, "agent 2": 4, "agent 39": 3, "agent 1000": 2} {
		if _, held := counters(t, d, tenant, budget); held != want {
			t.Errorf("%s holds %d, want %d", budget, held, want)
		}
	}
	balanced(t, d)
}
