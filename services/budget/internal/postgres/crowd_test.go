package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
)

// Ten thousand callers come at once to a budget with room for a thousand, and
// none of them has been here before: exactly a thousand pass, over one, two and
// three instances.
func TestACrowdGetsWhatThereIsAndNoMore(t *testing.T) {
	t.Parallel()
	const callers, room = 10_000, 1_000
	for _, instances := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d instances", instances), func(t *testing.T) {
			t.Parallel()
			d := dbtest.New(t)
			tenant := dbtest.Tenant(t, d)
			publish(t, d, tenant, dollars("all", 0.000001000)) // a thousand holds of one
			var at []*instance
			for range instances {
				at = append(at, start(t, d, lane.Options{MaxQueue: 3 * callers}))
			}
			var granted, refused atomic.Int64
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					op := hold(tenant, 1)
					<-begin
					switch a, err := at[i%instances].Do(t.Context(), op); {
					case err != nil:
						t.Error(err)
					case a.Granted:
						granted.Add(1)
					case a.RefusedBy.Spent+a.RefusedBy.Held != room:
						t.Errorf("refused with %d of %d in use", a.RefusedBy.Held, room)
					default:
						refused.Add(1)
					}
				})
			}
			close(begin)
			wg.Wait()
			if granted.Load() != room || refused.Load() != callers-room {
				t.Errorf("%d passed and %d were refused, want %d and %d", granted.Load(), refused.Load(), room, callers-room)
			}
			if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations`); n != room {
				t.Errorf("%d reservations, want %d", n, room)
			}
			balanced(t, d)
		})
	}
}

// A queue has a bound: who comes when it is full is told so at once, has changed
// nothing, and gets in later.
func TestAFullQueueTurnsAwayAtOnce(t *testing.T) {
	t.Parallel()
	const callers = 400
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	in := start(t, d, lane.Options{MaxBatch: 1, MaxQueue: 8})
	var granted, turned atomic.Int64
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			op := hold(tenant, 1)
			<-begin
			_, err := in.Do(t.Context(), op)
			switch {
			case err == nil:
				granted.Add(1)
			case fault.Is(err, fault.Exhausted) && fault.HasReason(err, "OVERLOADED"):
				turned.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(begin)
	wg.Wait()
	if turned.Load() == 0 || granted.Load() == 0 {
		t.Errorf("%d passed, %d were turned away", granted.Load(), turned.Load())
	}
	must(t, in, hold(tenant, 1))
	if n := dbtest.Count(t, d, `select cost_nano_held from fulcrum.budget_windows`); n != granted.Load()+1 {
		t.Errorf("%d held, %d were granted", n, granted.Load()+1)
	}
	balanced(t, d)
}
