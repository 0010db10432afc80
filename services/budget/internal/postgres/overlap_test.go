package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// crossing is budgets whose paths overlap in every way: by team, agent, user,
// workflow, model and envelope.
func crossing() []*costv1.Budget {
	out := []*costv1.Budget{dollars("all", 1)}
	add := func(id string, s *costv1.BudgetScope) {
		b := dollars(id, 0.000002)
		b.Scope = s
		out = append(out, b)
	}
	for i := range 3 {
		n := fmt.Sprint(i)
		add("z-team-"+n, &costv1.BudgetScope{Team: n})
		add("agent-"+n, &costv1.BudgetScope{AgentId: n})
		add("m-user-"+n, &costv1.BudgetScope{UserId: n})
		add("B-workflow-"+n, &costv1.BudgetScope{WorkflowId: n})
		add("model-"+n, &costv1.BudgetScope{Model: n, Team: n})
	}
	return out
}

// by returns a hold on a path by chance.
func by(tenant uuid.UUID, n int64) *ledger.Reserve {
	any := func() string { return []string{"", "0", "1", "2"}[rand.IntN(4)] }
	r := hold(tenant, n)
	r.Subject = catalog.Subject{Team: any(), AgentID: any(), UserID: any(), WorkflowID: any(), Model: any(), EnvelopeID: any()}
	if e := r.Subject.EnvelopeID; e != "" {
		r.Envelopes = []catalog.EnvelopeLimits{{EnvelopeID: e, Limits: amount.Amounts{amount.Cost: 3_000}}}
	}
	return r.Seal()
}

// Whatever paths holds take through the budgets, whatever becomes of them, whoever
// corrects them and changes the configuration meanwhile: two instances never wait for each
// other in a circle, nothing fails, and the ledger adds up.
func TestOverlappingPathsNeverDeadlock(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenants := []uuid.UUID{dbtest.Tenant(t, d), dbtest.Tenant(t, d), dbtest.Tenant(t, d)}
	for _, tenant := range tenants {
		publish(t, d, tenant, crossing()...)
	}
	at := []*instance{start(t, d, lane.Options{MaxBatch: 16}), start(t, d, lane.Options{MaxBatch: 16})}
	ctx, stop := context.WithTimeout(t.Context(), balance.Long(2*time.Second, 10*time.Minute))
	defer stop()

	var done, granted, moved atomic.Int64
	do := func(op ledger.Op) (ledger.Answer, bool) {
		// Its own context: the end of the test must not look like a failure.
		a, err := at[rand.IntN(len(at))].Do(t.Context(), op)
		done.Add(1)
		// A neighbour's configuration may move faster than a batch of all; told
		// as unavailable, nothing done.
		if fault.Is(err, fault.Down) {
			moved.Add(1)
		} else if err != nil {
			t.Errorf("%T: %v", op, err)
		}
		return a, err == nil
	}
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r := by(tenants[rand.IntN(len(tenants))], rand.Int64N(200)+1)
				if a, ok := do(r); !ok || !a.Held {
					continue
				}
				granted.Add(1)
				switch rand.IntN(6) {
				case 0:
					do(&ledger.Release{Ref: r.Ref, Key: "r"})
				case 1:
					do(&ledger.Renew{Ref: r.Ref, Key: "n", TTL: time.Minute})
					do(&ledger.Expire{Ref: r.Ref}) // not yet
					do(settle(r.Ref, 0))
				case 2:
					again := *r
					do(&again)
					do(settle(r.Ref, 0))
				default:
					// An overrun, or less than was held; then as if it had never been, so
					// that no budget runs dry and everything goes on being granted.
					used := []int64{300, 2}[rand.IntN(2)]
					if _, ok := do(settle(r.Ref, used)); !ok {
						continue
					}
					if _, ok := do(&ledger.Correct{Ref: r.Ref, Rerate: uuid.New(), Cost: 4, Version: "v"}); ok {
						used = 4
					}
					do(byHand(r.Ref, -used, r.ID.String()))
				}
			}
		})
	}
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				publish(t, d, tenants[0], crossing()...)
			}
		}
	})
	wg.Wait()
	t.Logf("%d operations, %d holds granted, %d times unavailable", done.Load(), granted.Load(), moved.Load())
	if granted.Load() < done.Load()/20 || moved.Load() > done.Load()/100 {
		t.Error("the ledger could not be worked with")
	}
	if n := dbtest.Count(t, d, `select deadlocks from pg_stat_database where datname = current_database()`); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
	balanced(t, d)
}
