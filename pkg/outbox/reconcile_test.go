package outbox

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Deleting JetStream's store is a delay and not a loss: what no consumer had
// confirmed is sent again, what they had is not, and each takes effect once.
func TestALostJetStreamStoreLosesNothing(t *testing.T) {
	t.Parallel()
	d, j := dbtest.NewWith(t, db.Options{MaxConns: 16}), startJet(t)
	tenant := dbtest.Tenant(t, d)
	relay := NewRelay(d.DB, j.bus, quiet)
	run(t, relay)
	appendEvents(t, d, tenant, 0, 10)
	eventually(t, "ten sent", func() bool { return unsent(t, d) == 0 })

	// One consumer had taken in all, the other only the first five.
	effects := newEffects()
	confirm(t, d, tenant, effects, "event-processor", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	confirm(t, d, tenant, effects, "audit", "0", "1", "2", "3", "4")

	if err := j.server.DeleteStore(); err != nil {
		t.Fatal(err)
	}
	if err := j.server.Restart(); err != nil {
		t.Fatal(err)
	}
	r := NewReconciler(d.DB, relay, quiet)
	r.Patience, r.Retention = 0, time.Hour
	report, err := r.Reconcile(t.Context())
	if err != nil || report.Gap != 5 {
		t.Fatalf("reconciled %+v, %v; want a gap of 5", report, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	for _, consumer := range consumers {
		g.Go(func() error {
			return j.bus.Consume(ctx, bus.Consumer{Durable: consumer, Bury: Bury(d.DB), Handle: func(ctx context.Context, batch []bus.Message) error {
				return effects.take(ctx, d.DB, tenant, consumer, batch)
			}})
		})
	}
	eventually(t, "both have everything", func() bool {
		return dbtest.Count(t, d, `select count(*) from fulcrum.inbox`) == 20
	})
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	for key, n := range effects.seen {
		if n != 1 {
			t.Errorf("%s took effect %d times", key, n)
		}
	}
	if len(effects.seen) != 20 {
		t.Errorf("%d effects, want 20", len(effects.seen))
	}

	// Now that all is confirmed, nothing is left to do but to forget.
	r.Retention = 0
	report, err = r.Reconcile(t.Context())
	if err != nil || report.Gap != 0 || report.Deleted != 10 {
		t.Errorf("reconciled %+v, %v; want 10 deleted", report, err)
	}
}

// Only what everybody accounted for leaves the outbox: by inbox or dead letter;
// a configuration change by having been sent.
func TestOnlyAccountedEventsAreDeleted(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	appendEvents(t, d, tenant, 0, 4)
	err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		e := event(tenant, 9)
		e.Stream, e.Type = busv1.Stream_STREAM_CONFIG, "policies"
		return Append(ctx, tx, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	to := &fake{}
	relay := NewRelay(d.DB, to, quiet)
	if _, err := relay.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	effects := newEffects()
	confirm(t, d, tenant, effects, "event-processor", "0", "1", "2")
	confirm(t, d, tenant, effects, "audit", "0")
	bury := bus.Dead{Consumer: "audit", Subject: "s", Tenant: tenant.String(), Event: to.got[1], Err: errors.New("poison"), Deliveries: 5}
	for range 2 { // burying twice is one letter
		if err := Bury(d.DB)(t.Context(), bury); err != nil {
			t.Fatal(err)
		}
	}

	r := NewReconciler(d.DB, relay, quiet)
	r.Patience, r.Retention, r.Memory = time.Hour, 0, 0
	report, err := r.Reconcile(t.Context())
	if err != nil || report.Deleted != 3 || report.Gap != 0 {
		t.Fatalf("reconciled %+v, %v; want 3 deleted: confirmed, dead and configuration", report, err)
	}
	if report.Forgotten != 3 {
		t.Errorf("%d inbox rows forgotten, want the 3 of deleted events", report.Forgotten)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.dead_letters`); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	r.Patience = 0
	if report, err = r.Reconcile(t.Context()); err != nil || report.Gap != 2 {
		t.Errorf("reconciled %+v, %v; want a gap of 2", report, err)
	}
	// It waits longer for what it has sent before.
	if _, err := relay.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Patience = time.Minute
	dbtest.Admin(t, d, `update fulcrum.outbox set sent_at = now() - interval '90 s'`)
	if report, err = r.Reconcile(t.Context()); err != nil || report.Gap != 0 {
		t.Errorf("reconciled %+v, %v; want patience for what was sent twice", report, err)
	}
}

// However many instances of a consumer get the same event, one of them has it.
func TestTheInboxLetsEachEventInOnce(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 12})
	tenant := dbtest.Tenant(t, d)
	ids := make([]uuid.UUID, 40)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var taken atomic.Int64
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 10 {
		g.Go(func() error {
			mine := slices.Clone(ids)
			if i%2 == 1 {
				slices.Reverse(mine) // the order they come in differs
			}
			return d.DB.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
				fresh, err := Inbox(ctx, tx, "audit", tenant, append(mine, mine[0]))
				taken.Add(int64(len(fresh)))
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if taken.Load() != int64(len(ids)) {
		t.Errorf("%d events let in, want %d", taken.Load(), len(ids))
	}
}

// effects counts what consumers did, as their committed work.
type effects struct {
	mu   sync.Mutex
	seen map[string]int
}

func newEffects() *effects { return &effects{seen: map[string]int{}} }

func (f *effects) take(ctx context.Context, d *db.DB, tenant uuid.UUID, consumer string, batch []bus.Message) error {
	var done []string
	err := d.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		actions, ids := map[uuid.UUID]string{}, []uuid.UUID{}
		for _, m := range batch {
			id := uuid.MustParse(m.Event.GetEventId())
			actions[id], ids = m.Event.GetAction(), append(ids, id)
		}
		fresh, err := Inbox(ctx, tx, consumer, tenant, ids)
		for id := range fresh {
			done = append(done, actions[id])
		}
		return err
	})
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, action := range done {
			f.seen[consumer+" "+action]++
		}
	}
	return err
}

// confirm has consumer take in the events of these numbers.
func confirm(t *testing.T, d *dbtest.Database, tenant uuid.UUID, f *effects, consumer string, actions ...string) {
	t.Helper()
	var batch []bus.Message
	for n := range 10 {
		if slices.Contains(actions, strconv.Itoa(n)) {
			batch = append(batch, bus.Message{Event: &busv1.Event{EventId: idOf(t, d, n), Action: strconv.Itoa(n)}})
		}
	}
	if err := f.take(t.Context(), d.DB, tenant, consumer, batch); err != nil {
		t.Fatal(err)
	}
}

// idOf finds the id of the nth event of the only tenant.
func idOf(t *testing.T, d *dbtest.Database, n int) (id string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), `select event_id::text from fulcrum.outbox order by seq offset $1 limit 1`, n).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}
