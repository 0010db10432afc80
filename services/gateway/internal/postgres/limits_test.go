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

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/quota"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// takes makes an entry of tenant that takes one of each of the counters.
func takes(tenant uuid.UUID, limits map[uuid.UUID]quota.Limit) *decision.Entry {
	e := entry(tenant)
	for id, l := range limits {
		e.Takes = append(e.Takes, decision.Take{Counter: id, Label: "of a test", Amount: 1, Seconds: int64(l.Per / time.Second), Limit: l})
	}
	return e
}

func window(most int64) quota.Limit {
	return quota.Limit{Kind: quota.Window, Of: quota.Calls, Max: most, Per: time.Hour}
}

func slots(most int64) quota.Limit {
	return quota.Limit{Kind: quota.Parallel, Of: quota.Calls, Max: most, Per: time.Minute}
}

// addsUp asserts that every counter says what its entries add up to.
func addsUp(t *testing.T, d *dbtest.Database) {
	t.Helper()
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.limit_counters c
		where c.taken <> (select coalesce(sum(e.amount), 0) from fulcrum.limit_entries e where e.tenant_id = c.tenant_id and e.counter_id = c.id)`); n != 0 {
		t.Errorf("%d counters differ from their entries", n)
	}
}

// Two recorders with several transactions each, four tenants, decisions that
// take several counters in any order, settle, release and come twice: nothing
// waits for ever, no counter is ever over its limit, and all of it adds up.
func TestLimitsHoldInAStorm(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	var recorders []decision.Recorder
	for range 2 {
		_, r := run(t, d, groupcommit.Options{Lanes: 3, MaxBatch: 16})
		recorders = append(recorders, r)
	}
	type place struct{ tenant, counter uuid.UUID }
	var tenants, counters []uuid.UUID
	for range 4 {
		tenants, counters = append(tenants, dbtest.Tenant(t, d)), append(counters, uuid.New())
	}
	var running sync.Map // place to *atomic.Int64
	var admitted, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 48 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for range 12 {
				tenant := tenants[r.IntN(len(tenants))]
				limits := map[uuid.UUID]quota.Limit{counters[0]: window(60)}
				for _, c := range counters[1:] {
					if r.IntN(2) == 0 {
						limits[c] = slots(3)
					}
				}
				e := takes(tenant, limits)
				ctx := context.WithoutCancel(t.Context())
				_, err := recorders[r.IntN(2)].Record(ctx, e)
				if r.IntN(3) == 0 { // the reply was lost: ask again
					again := takes(tenant, limits)
					again.Claim = e.Claim
					got, err2 := recorders[r.IntN(2)].Record(ctx, again)
					if err == nil && (err2 != nil || got.Stored == nil) {
						t.Errorf("asked again: %v, %v", got, err2)
					}
					if err != nil && err2 == nil {
						e, err = again, nil // there is room now
					}
				}
				if full := new(decision.FullError); errors.As(err, &full) {
					refused.Add(1)
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				admitted.Add(1)
				for c, l := range limits {
					if l.Kind != quota.Parallel {
						continue
					}
					n, _ := running.LoadOrStore(place{tenant, c}, new(atomic.Int64))
					if now := n.(*atomic.Int64).Add(1); now > 3 {
						t.Errorf("%d at once", now)
					}
				}
				if _, err := recorders[r.IntN(2)].Record(ctx, entry(tenant)); err != nil { // what it does
					t.Error(err)
				}
				for c, l := range limits {
					if l.Kind == quota.Parallel {
						n, _ := running.Load(place{tenant, c})
						n.(*atomic.Int64).Add(-1)
					}
				}
				end := entry(tenant)
				end.Decision, end.Ends = nil, &decision.Ending{Decision: e.Decision.ID, Undone: r.IntN(2) == 0}
				for range 1 + r.IntN(2) { // twice does no more than once
					end.Claim = &decision.Claim{Scope: "Settle", Key: uuid.NewString(), Response: []byte("settled")}
					if _, err := recorders[r.IntN(2)].Record(ctx, end); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if admitted.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d were admitted and %d refused: that is no storm", admitted.Load(), refused.Load())
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.limit_entries where unit = 'slot'`); n != 0 {
		t.Errorf("%d places leaked", n)
	}
	if n := dbtest.Count(t, d, `select coalesce(max(n), 0) from (select count(*) as n from fulcrum.limit_entries group by tenant_id, counter_id) x`); n > 60 {
		t.Errorf("%d in one window of 60", n)
	}
	addsUp(t, d)
}

// An attempt that was given up takes nothing, whenever it arrives.
func TestAnAttemptThatWasGivenUpTakesNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	store, recorder := run(t, d, groupcommit.Options{})
	tenant, counter := dbtest.Tenant(t, d), uuid.New()
	e := takes(tenant, map[uuid.UUID]quota.Limit{counter: window(1)})
	if _, err := store.GiveUp(t.Context(), tenant, *e.Claim); err != nil {
		t.Fatal(err)
	}
	if _, err := recorder.Record(t.Context(), e); !errors.Is(err, decision.ErrGivenUp) {
		t.Fatal(err)
	}
	if _, err := recorder.Record(t.Context(), takes(tenant, map[uuid.UUID]quota.Limit{counter: window(1)})); err != nil {
		t.Errorf("there is room for one: %v", err)
	}
	addsUp(t, d)
}

// A refused entry leaves nothing, frees its key, and says how full it is and
// when there is room.
func TestARefusalLeavesNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	_, recorder := run(t, d, groupcommit.Options{})
	tenant, full, free := dbtest.Tenant(t, d), uuid.New(), uuid.New()
	both := map[uuid.UUID]quota.Limit{full: window(1), free: window(9)}
	if _, err := recorder.Record(t.Context(), takes(tenant, map[uuid.UUID]quota.Limit{full: window(1)})); err != nil {
		t.Fatal(err)
	}
	e := takes(tenant, both)
	for range 2 {
		_, err := recorder.Record(t.Context(), e)
		refusal := new(decision.FullError)
		if !errors.As(err, &refusal) || len(refusal.Full) != 1 {
			t.Fatal(err)
		}
		f := refusal.Full[0]
		if e.Takes[f.Take].Counter != full || f.Taken != 1 || f.In <= 0 || f.In > time.Hour {
			t.Errorf("refused with %+v", f)
		}
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.limit_entries`); n != 1 {
		t.Errorf("%d entries", n)
	}
	e.Takes = nil // the denial that is recorded instead
	if done, err := recorder.Record(t.Context(), e); err != nil || done.Stored != nil {
		t.Errorf("the denial: %v, %v", done, err)
	}
	addsUp(t, d)
}

// The sweep drops what is over, the marks of envelopes that have ended, and
// counters that nobody needs; what still counts stays.
func TestTheSweepDropsWhatIsOver(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	store, recorder := run(t, d, groupcommit.Options{})
	tenant, lapsed, alive := dbtest.Tenant(t, d), uuid.New(), uuid.New()
	mark := decision.Take{Counter: uuid.New(), Label: "mark", Envelope: uuid.New(), Amount: 1, Limit: quota.Limit{Kind: quota.Remember, Of: quota.Calls, Name: "m"}}
	e := takes(tenant, map[uuid.UUID]quota.Limit{lapsed: window(9), alive: window(9)})
	e.Takes = append(e.Takes, mark)
	if _, err := recorder.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	dbtest.Admin(t, d, fmt.Sprintf(`update fulcrum.limit_entries set until = now() - interval '1 second' where counter_id = '%s'`, lapsed))
	untouched := func() {
		dbtest.Admin(t, d, `update fulcrum.limit_counters set touched_at = now() - interval '2 hours'`)
		if err := store.LapseLimits(t.Context()); err != nil {
			t.Fatal(err)
		}
		addsUp(t, d)
	}
	untouched()
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.limit_entries`); n != 1 {
		t.Errorf("%d entries", n)
	}
	untouched() // what counts nothing goes an hour after it was asked last
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.limit_counters`); n != 1 {
		t.Errorf("%d counters", n)
	}
	if _, err := recorder.Record(t.Context(), takes(tenant, map[uuid.UUID]quota.Limit{alive: window(1)})); err == nil {
		t.Error("what still counts was dropped")
	}
}

// Another tenant's counters cannot be seen, locked or changed, even by their ids.
func TestCountersAreTheirTenants(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	store, recorder := run(t, d, groupcommit.Options{})
	one, two, counter := dbtest.Tenant(t, d), dbtest.Tenant(t, d), uuid.New()
	e := takes(one, map[uuid.UUID]quota.Limit{counter: slots(1)})
	if _, err := recorder.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if n, _, err := store.RenewSlots(t.Context(), two, e.Decision.ID, time.Hour); err != nil || n != 0 {
		t.Errorf("renewed %d, %v", n, err)
	}
	end := entry(two)
	end.Ends = &decision.Ending{Decision: e.Decision.ID, Undone: true}
	if _, err := recorder.Record(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	if _, err := recorder.Record(t.Context(), takes(two, map[uuid.UUID]quota.Limit{counter: slots(1)})); err != nil {
		t.Errorf("the same id, another tenant: %v", err)
	}
	var n int
	err := d.DB.Read(t.Context(), two, func(ctx context.Context, tx db.Tx) error {
		return tx.QueryRow(ctx, `select count(*) from fulcrum.limit_entries where decision_id = $1`, e.Decision.ID).Scan(&n)
	})
	if err != nil || n != 0 || dbtest.Count(t, d, `select count(*) from fulcrum.limit_entries`) != 2 {
		t.Errorf("%d seen, %v", n, err)
	}
	addsUp(t, d)
}

// While somebody holds a counter, decisions that do not count on limits are
// recorded all the same, also those of the same tenant.
func TestWhoHasNoLimitsDoesNotWaitForWhoHas(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	_, recorder := run(t, d, groupcommit.Options{Lanes: 1})
	tenant, counter := dbtest.Tenant(t, d), uuid.New()
	limited := func() *decision.Entry { return takes(tenant, map[uuid.UUID]quota.Limit{counter: window(9)}) }
	if _, err := recorder.Record(t.Context(), limited()); err != nil {
		t.Fatal(err)
	}
	locked, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := d.DB.WithTenant(context.WithoutCancel(t.Context()), tenant, func(ctx context.Context, tx db.Tx) error {
			if _, err := tx.Exec(ctx, `select from fulcrum.limit_counters where id = $1 for update`, counter); err != nil {
				return err
			}
			close(locked)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-locked
	waiting := make(chan error, 1)
	all.Go(func() {
		_, err := recorder.Record(context.WithoutCancel(t.Context()), limited())
		waiting <- err
	})
	for range 20 {
		if _, err := recorder.Record(t.Context(), entry(tenant)); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-waiting:
		if err == nil { // it may have waited for as long as it may
			t.Error("it did not wait for the counter")
		}
	default:
	}
	close(release)
	all.Wait()
	if _, err := recorder.Record(t.Context(), limited()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	addsUp(t, d)
}
