package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// levels are a tenant of 100 calls with two teams of 60 and four agents of 40:
// whoever comes first, exactly 100 calls fit.
func levels() []*costv1.Budget {
	calls := func(id string, n int32, s *costv1.BudgetScope) *costv1.Budget {
		return &costv1.Budget{
			BudgetId: id, Name: id, Scope: s, Limits: &costv1.BudgetLimits{MaxCostUsd: float64(n)},
			Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_MONTHLY},
		}
	}
	out := []*costv1.Budget{calls("tenant", 100, nil)}
	for team := range 2 {
		out = append(out, calls(fmt.Sprint("team-", team), 60, &costv1.BudgetScope{Team: fmt.Sprint("team-", team)}))
	}
	for agent := range 4 {
		out = append(out, calls(fmt.Sprint("agent-", agent), 40, &costv1.BudgetScope{AgentId: fmt.Sprint("agent-", agent)}))
	}
	return out
}

func levelHold(tenant uuid.UUID, i int) *ledger.Reserve {
	r := hold(tenant, 1_000_000_000)
	r.Subject.AgentID = fmt.Sprint("agent-", i%4)
	r.Subject.Team = fmt.Sprint("team-", i%2)
	return r.Seal()
}

// No interleaving of concurrent holders, in one process or in two, may pass the
// limit of any level, and what fits is granted to the last unit.
func TestHoldsNeverPassTheLimitOfAnyLevel(t *testing.T) {
	t.Parallel()
	for _, instances := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d instances", instances), func(t *testing.T) {
			t.Parallel()
			const holders = 400
			d := dbtest.New(t)
			tenant := dbtest.Tenant(t, d)
			publish(t, d, tenant, levels()...)
			var at []*instance
			for range instances {
				at = append(at, start(t, d, lane.Options{MaxBatch: 16}))
			}

			var granted atomic.Int64
			g, ctx := errgroup.WithContext(t.Context())
			for i := range holders {
				g.Go(func() error {
					a, err := at[i%instances].Do(ctx, levelHold(tenant, i/instances))
					if a.Granted {
						granted.Add(1)
					}
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if granted.Load() != 100 {
				t.Errorf("granted %d, want exactly 100", granted.Load())
			}
			if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations`); n != 100 {
				t.Errorf("%d reservations, want 100", n)
			}
			balanced(t, d)
		})
	}
}

// lossy loses the first request of every op, or its reply.
type lossy struct {
	*instance
	reply bool // lose the reply, not the request

	mu   sync.Mutex // guards seen
	seen map[ledger.Ref]bool
}

var errLost = errors.New("connection lost")

func (l *lossy) Do(ctx context.Context, op ledger.Op) (ledger.Answer, error) {
	l.mu.Lock()
	lose := !l.seen[op.Of()]
	l.seen[op.Of()] = true
	l.mu.Unlock()
	if lose && !l.reply {
		return ledger.Answer{}, errLost
	}
	a, err := l.instance.Do(ctx, op)
	if lose {
		return ledger.Answer{}, errLost
	}
	return a, err
}

// A caller that hears nothing asks again. Whether the request or the reply was
// lost, everything is held and charged exactly once.
func TestALostCallIsChargedOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		reply bool
	}{{"request lost", false}, {"reply lost", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := dbtest.New(t)
			tenant := dbtest.Tenant(t, d)
			publish(t, d, tenant, dollars("all", 100))
			in := start(t, d, lane.Options{})
			twice := func(op func() ledger.Op) (a ledger.Answer) {
				t.Helper()
				l := &lossy{instance: in, reply: tt.reply, seen: map[ledger.Ref]bool{}}
				if _, err := l.Do(t.Context(), op()); !errors.Is(err, errLost) {
					t.Fatalf("first call: %v", err)
				}
				a, err := l.Do(t.Context(), op())
				if err != nil {
					t.Fatalf("second call: %v", err)
				}
				return a
			}
			var charged int64
			for i := range 5 {
				r := hold(tenant, 1_000_000_000)
				if a := twice(func() ledger.Op { again := *r; return &again }); !a.Granted || !a.Held {
					t.Fatalf("Reserve: %+v", a)
				}
				if i == 4 {
					if a := twice(func() ledger.Op { return &ledger.Release{Ref: r.Ref, Key: "r"} }); a.Amounts != nano(1_000_000_000) {
						t.Errorf("Release: %+v", a)
					}
					continue
				}
				if a := twice(func() ledger.Op { return settle(r.Ref, int64(i)) }); a.Amounts != nano(int64(i)) {
					t.Errorf("Settle: %+v", a)
				}
				charged += int64(i)
			}
			if n := dbtest.Count(t, d, `select cost_nano_spent from fulcrum.budget_windows`); n != charged {
				t.Errorf("spent %d, want %d", n, charged)
			}
			if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = 'cost_recorded'`); n != 4 {
				t.Errorf("%d cost events, want 4", n)
			}
			balanced(t, d)
		})
	}
}

// The reply of a COMMIT can be lost too: the batch runs again and finds itself
// done. The connection is cut from inside the transaction, right before commit
// and right after.
func TestABatchWhoseConnectionBreaksIsDoneOnce(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 100))
	var cut atomic.Bool
	in := startWith(t, d, lane.Options{}, func(ctx context.Context, tx db.Tx, events ...*busv1.Event) error {
		if cut.CompareAndSwap(false, true) {
			_, err := tx.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
			return err
		}
		return outboxAppend(ctx, tx, events...)
	})
	r := hold(tenant, 5)
	must(t, in, r)
	if a := must(t, in, settle(r.Ref, 7)); a.Amounts != nano(7) {
		t.Errorf("Settle: %+v", a)
	}
	if !cut.Load() {
		t.Error("the connection was never cut")
	}
	balanced(t, d)
}

// Callers that give up leave nothing behind that the sweep does not clear.
func TestCancelledCallersLeakNothing(t *testing.T) {
	t.Parallel()
	callers := balance.Long(600, 20_000)
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1000))
	at := []*instance{start(t, d, lane.Options{MaxBatch: 8}), start(t, d, lane.Options{MaxBatch: 8})}
	in := at[0]

	slots := make(chan struct{}, 300) // callers at a time
	var settled, gone atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%5 < 2 { // 40 %
				// At any moment of the two calls.
				time.AfterFunc(rand.N(30*time.Millisecond), cancel)
			}
			in := at[i%len(at)]
			r := hold(tenant, 1_000)
			if _, err := in.Do(ctx, r); err != nil {
				gone.Add(1)
				return
			}
			if _, err := in.Do(ctx, settle(r.Ref, 1_000)); err == nil {
				settled.Add(1)
			} else {
				gone.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d were charged, %d gave up", settled.Load(), gone.Load())
	if gone.Load() == 0 || settled.Load() < int64(callers)*6/10 {
		t.Errorf("%d of %d were charged, %d gave up", settled.Load(), callers, gone.Load())
	}
	balanced(t, d)
	elapse(t, d)
	if err := sweeper(in).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, d, `select coalesce(sum(cost_nano_held), 0) from fulcrum.budget_windows`); n != 0 {
		t.Errorf("%d still held after the sweep", n)
	}
	if n := dbtest.Count(t, d, `select cost_nano_spent from fulcrum.budget_windows`); n < settled.Load()*1_000 {
		t.Errorf("spent %d, but %d callers were told of 1000 each", n, settled.Load())
	}
	balanced(t, d)
}

// Tenants share a batch and nothing else.
func TestABatchOfTenantsNeverMixes(t *testing.T) {
	t.Parallel()
	const tenants, each = 20, 10
	d := dbtest.New(t)
	var ids []uuid.UUID
	for i := range tenants {
		tenant := dbtest.Tenant(t, d)
		publish(t, d, tenant, dollars("all", float64(i+1))) // the same budget id everywhere
		ids = append(ids, tenant)
	}
	in := start(t, d, lane.Options{})
	same := uuid.Must(uuid.NewV7()) // the same reservation id, too
	g, ctx := errgroup.WithContext(t.Context())
	for i, tenant := range ids {
		g.Go(func() error {
			r := hold(tenant, int64(i+1))
			r.ID = same
			_, err := in.Do(ctx, r)
			return err
		})
		for range each {
			g.Go(func() error {
				r := hold(tenant, 1)
				if _, err := in.Do(ctx, r); err != nil {
					return err
				}
				_, err := in.Do(ctx, settle(r.Ref, int64(i)))
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, tenant := range ids {
		n := dbtest.Count(t, d, `select cost_nano_held * 1000000 + cost_nano_spent from fulcrum.budget_windows where tenant_id = $1`, tenant)
		if want := int64(i+1)*1_000_000 + int64(each*i); n != want {
			t.Errorf("tenant %d: held and spent %d, want %d", i, n, want)
		}
	}
	// A caller of one tenant finds nothing of another's.
	r := hold(ids[1], 1)
	must(t, in, r)
	for _, op := range []ledger.Op{
		settle(ledger.Ref{Tenant: ids[2], ID: r.ID}, 1),
		&ledger.Release{Ref: ledger.Ref{Tenant: ids[2], ID: r.ID}},
		&ledger.Renew{Ref: ledger.Ref{Tenant: ids[2], ID: r.ID}, TTL: time.Minute},
	} {
		if _, err := in.Do(t.Context(), op); !isNotFound(err) {
			t.Errorf("%T of another tenant's reservation: %v", op, err)
		}
	}
	// And the database would not let it.
	err := d.DB.WithTenants(t.Context(), ids[:2], func(ctx context.Context, tx db.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, `select count(distinct tenant_id) from fulcrum.budget_windows`).Scan(&n); err != nil || n != 2 {
			t.Errorf("two tenants of twenty see the windows of %d (%v)", n, err)
		}
		tag, err := tx.Exec(ctx, `update fulcrum.budget_windows set cost_nano_spent = 0 where tenant_id = $1`, ids[5])
		if tag.RowsAffected() != 0 {
			t.Error("another tenant's window was changed")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	balanced(t, d)
}

// What one op cannot do fails it alone, not the batch it came in.
func TestAPoisonedOpFailsAlone(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 100))
	in := start(t, d, lane.Options{})
	g, ctx := errgroup.WithContext(t.Context())
	for range 50 {
		g.Go(func() error {
			_, err := in.Do(ctx, hold(tenant, 1))
			return err
		})
	}
	g.Go(func() error {
		r := hold(tenant, 1)
		r.Subject.UserID = "\x00" // no text of Postgres
		if _, err := in.Do(ctx, r.Seal()); err == nil {
			return errors.New("a text that cannot be stored was accepted")
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, d, `select cost_nano_held from fulcrum.budget_windows`); n != 50 {
		t.Errorf("held %d, want 50", n)
	}
	balanced(t, d)
}

// A budget whose period or time zone changes goes on counting what was used in
// what is now its window.
func TestAChangeOfPeriodResetsNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	in := start(t, d, lane.Options{})
	daily, monthly := costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY, costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_MONTHLY
	for _, tt := range []struct {
		name     string
		from, to *costv1.Budget
	}{
		{"from days to months", &costv1.Budget{Period: &costv1.BudgetPeriod{PeriodType: daily}}, &costv1.Budget{Period: &costv1.BudgetPeriod{PeriodType: monthly}}},
		{"from months to days", &costv1.Budget{Period: &costv1.BudgetPeriod{PeriodType: monthly}}, &costv1.Budget{Period: &costv1.BudgetPeriod{PeriodType: daily}}},
		{"to another zone", &costv1.Budget{Period: &costv1.BudgetPeriod{PeriodType: monthly}}, &costv1.Budget{Period: &costv1.BudgetPeriod{PeriodType: monthly}, TimeZone: "Asia/Tokyo"}},
	} {
		tenant := dbtest.Tenant(t, d)
		for _, b := range []*costv1.Budget{tt.from, tt.to} {
			b.BudgetId, b.Limits = "b", &costv1.BudgetLimits{MaxCostUsd: 0.000000100}
		}
		publish(t, d, tenant, tt.from)
		spent, open := hold(tenant, 30), hold(tenant, 20)
		must(t, in, spent)
		must(t, in, settle(spent.Ref, 30))
		must(t, in, open)
		publish(t, d, tenant, tt.to)
		if a := must(t, in, hold(tenant, 51)); a.Granted {
			t.Errorf("%s: what was used is forgotten: %+v", tt.name, a)
		}
		used := int64(50) // what is open in the other window counts as spent in this one
		if tt.to.GetTimeZone() == "" && time.Now().UTC().Day() == 1 {
			used = 30 // the day and the month begin together: it is one window
		}
		if a := must(t, in, hold(tenant, 50)); !a.Granted || a.States[0].Spent != used || a.States[0].Held != 100-used || a.States[0].Remaining != 0 {
			t.Errorf("%s: what is left is not granted: %+v", tt.name, a)
		}
		must(t, in, settle(open.Ref, 20))
	}
	balanced(t, d)
}

// Balances in memory make it faster and never wrong: what another instance did
// meanwhile is noticed, and the batch looks first.
func TestMemoryIsNeverTrustedBlindly(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 0.000000100))
	one, two := start(t, d, lane.Options{}), start(t, d, lane.Options{})
	for range 10 {
		r := hold(tenant, 2)
		must(t, one, r)
		must(t, one, settle(r.Ref, 2))
	}
	if held := one.fast[1].Load(); held < 15 {
		t.Errorf("%d of 20 batches were decided on balances in memory", held)
	}
	must(t, two, hold(tenant, 79)) // 1 is left, and the first instance believes it is 80
	if a := must(t, one, hold(tenant, 2)); a.Granted {
		t.Errorf("granted on a balance of the past: %+v", a)
	}
	if failed := one.fast[0].Load(); failed == 0 {
		t.Error("the balance of the past was not even tried")
	}
	r := hold(tenant, 1)
	must(t, one, r)
	must(t, two, settle(r.Ref, 1)) // behind the first one's back
	if _, err := one.Do(t.Context(), settle(r.Ref, 5)); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
		t.Errorf("settled twice: %v", err)
	}
	publish(t, d, tenant, dollars("all", 0.000000200))
	if a := must(t, one, hold(tenant, 100)); !a.Granted {
		t.Errorf("by the old configuration: %+v", a)
	}
	// Changed by hand, as the operator's notes say: the version is raised.
	publish(t, d, tenant, dollars("all", 0.000000210))
	three := start(t, d, lane.Options{})
	must(t, three, hold(tenant, 1))
	must(t, three, hold(tenant, 1)) // decided on balances in memory
	dbtest.Admin(t, d, `update fulcrum.budget_windows set version = version + 1`)
	if a := must(t, three, hold(tenant, 8)); !a.Granted || three.fast[0].Load() == 0 {
		t.Errorf("after a change by hand: %+v, %d batches fell back", a, three.fast[0].Load())
	}
	if a := must(t, three, hold(tenant, 1)); a.Granted {
		t.Errorf("granted beyond the limit: %+v", a)
	}
	balanced(t, d)
}
