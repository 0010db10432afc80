package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// An event exists exactly if the change it tells of does.
func TestAnEventIsToldExactlyIfTheChangeIsCommitted(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	undone := errors.New("undone")
	err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		if err := Append(ctx, tx, event(tenant, 0)); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	appendEvents(t, d, tenant, 1, 3)

	to := &fake{}
	r := NewRelay(d.DB, to, quiet)
	if moved, err := r.pass(t.Context()); err != nil || moved != 2 {
		t.Fatalf("moved %d, %v; want 2", moved, err)
	}
	for i, e := range to.got {
		if e.GetAction() != strconv.Itoa(i+1) || e.GetEventId() == "" || e.GetOccurredAt() == nil || e.GetStream() != busv1.Stream_STREAM_EVENTS {
			t.Errorf("event %d is %v", i, e)
		}
	}
	if moved, err := r.pass(t.Context()); err != nil || moved != 0 {
		t.Errorf("a second pass moved %d, %v", moved, err)
	}
}

// Another tenant's event cannot be slipped into a tenant's transaction.
func TestAppendStaysWithinItsTenant(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	mine, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	err := d.DB.WithTenant(t.Context(), mine, func(ctx context.Context, tx db.Tx) error {
		return Append(ctx, tx, event(other, 0))
	})
	if !db.Is(err, "42501") {
		t.Errorf("got %v, want a refusal by row level security", err)
	}
}

// A relay that dies after publishing leaves a lease behind. Whoever takes over
// publishes again, and the stream still has each event once.
func TestARelayKilledBetweenPublishAndMarkTellsNothingTwice(t *testing.T) {
	t.Parallel()
	d, j := dbtest.New(t), startJet(t)
	tenant := dbtest.Tenant(t, d)
	appendEvents(t, d, tenant, 0, 50)

	killed := errors.New("killed")
	first := NewRelay(d.DB, j.bus, quiet)
	first.Lease = 300 * time.Millisecond
	first.published = func() error { return killed }
	if _, err := first.pass(t.Context()); !errors.Is(err, killed) {
		t.Fatalf("got %v, want to be killed", err)
	}
	if n := unsent(t, d); n != 50 || j.count() != 50 {
		t.Fatalf("%d rows unsent and %d messages; the test wanted 50 of each", n, j.count())
	}

	run(t, NewRelay(d.DB, j.bus, quiet))
	eventually(t, "all rows sent", func() bool { return unsent(t, d) == 0 })
	if got := len(j.arrived(t)); got != 50 {
		t.Errorf("%d messages in the stream, want 50", got)
	}
}

// Any number of relays may run: each event arrives once, each tenant's in order.
func TestTwoRelaysKeepEveryTenantsOrder(t *testing.T) {
	t.Parallel()
	const tenants, events = 5, 120
	d, j := dbtest.NewWith(t, db.Options{MaxConns: 12}), startJet(t)
	relays := []*Relay{NewRelay(d.DB, j.bus, quiet), NewRelay(d.DB, j.bus, quiet)}
	for _, r := range relays {
		r.Batch = 40 // many leases each
		run(t, r)
	}
	var ids []uuid.UUID
	for range tenants {
		ids = append(ids, dbtest.Tenant(t, d))
	}
	for from := 0; from < events; from += 20 {
		for _, id := range ids {
			appendEvents(t, d, id, from, from+20)
			relays[from/20%2].Nudge()
		}
	}
	eventually(t, "all rows sent", func() bool { return unsent(t, d) == 0 })

	next := map[string]int{}
	for _, e := range j.arrived(t) {
		if e.GetAction() != strconv.Itoa(next[e.GetTenantId()]) {
			t.Fatalf("tenant %s: event %s came where %d belongs", e.GetTenantId(), e.GetAction(), next[e.GetTenantId()])
		}
		next[e.GetTenantId()]++
	}
	for _, id := range ids {
		if next[id.String()] != events {
			t.Errorf("tenant %s has %d events, want %d", id, next[id.String()], events)
		}
	}
}

// NATS being away delays events and loses none.
func TestEventsWaitForNATS(t *testing.T) {
	t.Parallel()
	d, j := dbtest.New(t), startJet(t)
	tenant := dbtest.Tenant(t, d)
	r := NewRelay(d.DB, j.bus, quiet)
	run(t, r)
	appendEvents(t, d, tenant, 0, 5)
	eventually(t, "the first five", func() bool { return j.count() == 5 })

	if err := j.server.Stop(); err != nil {
		t.Fatal(err)
	}
	appendEvents(t, d, tenant, 5, 10)
	eventually(t, "a failed attempt", func() bool {
		return dbtest.Count(t, d, `select count(*) from fulcrum.outbox where last_error is not null`) > 0
	})
	if err := j.server.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest", func() bool { return unsent(t, d) == 0 })
	for i, e := range j.arrived(t) {
		if e.GetAction() != strconv.Itoa(i) {
			t.Errorf("event %s came as number %d", e.GetAction(), i)
		}
	}
	if j.count() != 10 {
		t.Errorf("%d messages, want 10", j.count())
	}
}

// What the bus can never take is kept for people, and holds nothing up.
func TestAnEventThatCanNeverBePublishedIsSetAside(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	appendEvents(t, d, tenant, 0, 4)
	dbtest.Admin(t, d, `update fulcrum.outbox set event = '\xff' where seq = (select max(seq) from fulcrum.outbox)`)

	to := &fake{fail: func(e *busv1.Event) error {
		switch e.GetAction() {
		case "0":
			return fault.New(fault.Invalid, "cannot be")
		case "1":
			return errors.New("not now")
		}
		return nil
	}}
	if _, err := NewRelay(d.DB, to, quiet).pass(t.Context()); err == nil {
		t.Error("an event that has to be tried again is no error")
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.dead_letters where consumer = 'relay'`); n != 2 {
		t.Errorf("%d dead letters, want 2", n)
	}
	if n := unsent(t, d); n != 1 {
		t.Errorf("%d rows unsent, want the one to be tried again", n)
	}
	if len(to.got) != 1 || to.got[0].GetAction() != "2" {
		t.Errorf("published %v, want event 2", to.got)
	}
}

// More tenants than a page, and a flood of one, leave nobody waiting for a
// second pass.
func TestOnePassServesEveryTenant(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	flood := dbtest.Tenant(t, d)
	appendEvents(t, d, flood, 0, 60)
	for range 9 {
		appendEvents(t, d, dbtest.Tenant(t, d), 0, 1)
	}
	to := &fake{}
	r := NewRelay(d.DB, to, quiet)
	r.page, r.Batch = 4, 40
	if _, err := r.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, e := range to.got {
		served[e.GetTenantId()] = true
	}
	if len(served) != 10 || len(to.got) >= 69 {
		t.Errorf("%d tenants served with %d events, want all 10 and only a share of the flood", len(served), len(to.got))
	}
}

// A revoked key or a changed policy does not wait until a flood of the tenant's
// own events is on its way, and is told in the order it was made.
func TestAConfigurationChangeDoesNotWaitBehindEvents(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	appendEvents(t, d, tenant, 0, 50)
	stuck, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	told := make(chan string, 2)
	run(t, NewRelay(d.DB, publisher(func(events []*busv1.Event) []error {
		for _, e := range events {
			if e.GetStream() == busv1.Stream_STREAM_CONFIG {
				told <- e.GetAction()
				continue
			}
			once.Do(func() { close(stuck) })
			<-release
		}
		return make([]error, len(events))
	}), quiet))
	t.Cleanup(func() { close(release) })
	<-stuck
	err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		for n := range 2 {
			e := event(tenant, n)
			e.Stream = busv1.Stream_STREAM_CONFIG
			if err := Append(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if got := <-told; got != strconv.Itoa(n) {
			t.Errorf("change %s was told as number %d", got, n)
		}
	}
	if n := unsent(t, d); n < 50 {
		t.Errorf("%d rows are unsent; none of the 50 events was to leave", n)
	}
}

func TestAppendRefusesWhatNobodyCouldRoute(t *testing.T) {
	t.Parallel()
	tenant := uuid.New().String()
	for name, e := range map[string]*busv1.Event{
		"no tenant":  {Type: "a", Writer: "b"},
		"nil tenant": {TenantId: uuid.Nil.String(), Type: "a", Writer: "b"},
		"no type":    {TenantId: tenant, Writer: "b"},
		"no writer":  {TenantId: tenant, Type: "a"},
		"bad id":     {TenantId: tenant, Type: "a", Writer: "b", EventId: "7"},
		"too large":  {TenantId: tenant, Type: "a", Writer: "b", Resource: fmt.Sprintf("%1100000d", 1)},
	} {
		if err := Append(t.Context(), nil, e); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
}
