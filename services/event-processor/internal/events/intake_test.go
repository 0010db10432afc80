package events_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/events"
)

var noMetrics = noop.NewMeterProvider().Meter("")

func TestWhatTheOutboxHoldsIsStored(t *testing.T) {
	t.Parallel()
	l := build(t)
	tenant := dbtest.Tenant(t, l.db)
	l.run(outbox.NewRelay(l.db.DB, l.bus, quiet).Run)
	l.consume(nil)
	for i := range 5 {
		l.append(newEvent(tenant, "x", "run"), newEvent(tenant, "y", fmt.Sprint(i)))
	}
	l.awaitHead(tenant, 10)
	l.count("numbers of one execution", 5, `select max(sequence_number) from fulcrum.events where tenant_id = $1 and execution_key = 'run'`, tenant)
	l.count("confirmed", 10, `select count(*) from fulcrum.inbox where consumer = 'event-processor'`)
	l.count("orders that differ", 0, `select count(*) from (
		select o.seq < lag(o.seq) over (order by e.stream_sequence) as turned from fulcrum.events e join fulcrum.outbox o using (tenant_id, event_id)) x where turned`)
}

// However often and however late an event comes, it is one row and is counted once.
func TestAnEventDeliveredManyTimesIsOne(t *testing.T) {
	t.Parallel()
	l := build(t)
	tenant := dbtest.Tenant(t, l.db)
	e := newEvent(tenant, "decision_made", "run")
	e.Decision, e.Latency, e.Cost = "DENY", &busv1.LatencyFact{TotalUs: 10}, &busv1.CostFact{CostNano: 5}
	l.publishEvents(e, e, e)
	l.consume(nil)
	l.publishEvents(newEvent(tenant, "fence", "run"))
	l.awaitHead(tenant, 2)
	l.publishEvents(e, newEvent(tenant, "fence", "run"))
	l.awaitHead(tenant, 3)
	l.count("rows", 1, `select count(*) from fulcrum.events where type = 'decision_made'`)
	l.count("cost", 5, `select sum(cost_nano) from metrics.cost_events`)
	l.count("decisions", 1, `select sum(decisions) from metrics.agent_hours`)
	l.count("latencies", 1, `select count(*) from metrics.decision_latency`)
}

// A process that dies between commit and ack gets everything again, and that
// changes nothing.
func TestRedeliveryAfterTheCommitIsNoEffect(t *testing.T) {
	t.Parallel()
	l := build(t)
	tenant := dbtest.Tenant(t, l.db)
	var es []*busv1.Event
	for range 20 {
		e := newEvent(tenant, "cost_recorded", "run")
		e.Cost = &busv1.CostFact{CostNano: 1}
		es = append(es, e)
	}
	l.publishEvents(es...)
	l.intake.AfterCommit = func() error {
		l.note(func() { l.commits++ })
		return errors.New("killed")
	}
	dies := l.consume(nil)
	l.awaitHead(tenant, 20)
	dies()

	l.intake.AfterCommit = nil
	lives := l.consume(nil)
	defer lives()
	acked := func() bool {
		c, err := l.js.Consumer(t.Context(), bus.EventsStream, events.Name)
		if err != nil {
			return false
		}
		i := c.CachedInfo()
		return i.NumAckPending == 0 && i.NumPending == 0 && i.NumRedelivered == 0
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(30 * time.Second); !acked(); {
		select {
		case <-limit:
			t.Fatal("the messages were never acked")
		case <-tick.C:
		}
	}
	if l.commits == 0 {
		t.Fatal("nobody was killed")
	}
	l.count("events", 20, `select count(*) from fulcrum.events`)
	l.count("last number", 20, `select max(sequence_number) from fulcrum.events`)
	l.count("cost", 20, `select sum(cost_nano) from metrics.cost_events`)
	l.count("counted", 20, `select sum(events) from metrics.agent_hours`)
}

// What cannot be stored is kept with the reason, and stops nobody.
func TestPoisonIsBuriedAndItsNeighboursAreStored(t *testing.T) {
	t.Parallel()
	l := build(t)
	tenant, other := dbtest.Tenant(t, l.db), dbtest.Tenant(t, l.db)
	subject := "fulcrum.events." + tenant.String() + ".x"

	noNumber := newEvent(tenant, "x", "run")
	noNumber.Payload = &structpb.Struct{Fields: map[string]*structpb.Value{"x": structpb.NewNumberValue(math.NaN())}}
	foreign, err := proto.Marshal(newEvent(other, "x", "run"))
	if err != nil {
		t.Fatal(err)
	}
	zero := newEvent(tenant, "zero\x00", "r\x00")
	zero.Payload = &structpb.Struct{Fields: map[string]*structpb.Value{"x": structpb.NewStringValue("\x00")}}

	l.publishEvents(newEvent(tenant, "good", "run"))
	l.publish(subject, []byte("not an event"))
	l.publishEvents(newEvent(tenant, "good", "run"), noNumber, newEvent(other, "good", "run"), zero)
	l.publish(subject, foreign)
	l.publishEvents(newEvent(tenant, "good", "run"))

	l.run(func(ctx context.Context) error {
		return l.bus.Advisories(ctx, "test", func(ctx context.Context, a bus.Advisory) error {
			err := l.intake.Advisory(ctx, a)
			l.note(func() { l.advisories = append(l.advisories, a) })
			return err
		})
	})
	l.consume(nil)
	l.awaitHead(tenant, 4)
	l.awaitHead(other, 1)
	l.await("three dead letters", func() bool { return len(l.dead) == 3 })
	l.await("three advisories", func() bool { return len(l.advisories) == 3 })

	l.count("good ones", 4, `select count(*) from fulcrum.events where type = 'good'`)
	l.count("the one with a character that PostgreSQL has not", 1, `select count(*) from fulcrum.events where type = 'zero' || chr(65533) and payload->>'x' = chr(65533)`)
	l.count("dead letters", 3, `select count(*) from fulcrum.dead_letters where tenant_id = $1 and consumer = 'event-processor' and resolved_at is null`, tenant)
	for _, reason := range []string{"not an event", "payload", "came on the subject of tenant"} {
		l.count("dead letters for: "+reason, 1, `select count(*) from fulcrum.dead_letters where error like '%' || $1 || '%'`, reason)
	}
	l.count("events in another's name", 1, `select count(*) from fulcrum.events where tenant_id = $1`, other)
	if i := slices.IndexFunc(l.advisories, func(a bus.Advisory) bool { return a.Kind != "terminated" || a.Consumer != events.Name }); i >= 0 {
		t.Errorf("advisory %+v", l.advisories[i])
	}
}

// JetStream may forget everything: the outbox does not.
func TestALostStoreIsADelay(t *testing.T) {
	t.Parallel()
	l := build(t)
	tenant := dbtest.Tenant(t, l.db)
	relay := outbox.NewRelay(l.db.DB, l.bus, quiet)
	l.run(relay.Run)
	stop := l.consume(nil)
	l.append(newEvent(tenant, "x", "run"))
	l.awaitHead(tenant, 1)
	stop()

	// Sent, and nobody took them in when the store went.
	for range 40 {
		l.append(newEvent(tenant, "x", "run"))
	}
	sent := func() bool {
		return dbtest.Count(t, l.db, `select count(*) from fulcrum.outbox where sent_at is null`) == 0
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(30 * time.Second); !sent(); {
		select {
		case <-limit:
			t.Fatal("the events were never sent")
		case <-tick.C:
		}
	}
	l.consumeGone()
	if err := l.server.DeleteStore(); err != nil {
		t.Fatal(err)
	}
	if err := l.server.Restart(); err != nil {
		t.Fatal(err)
	}
	l.consume(nil)
	reconciler := outbox.NewReconciler(l.db.DB, relay, quiet)
	reconciler.Consumers, reconciler.Patience, reconciler.Every = []string{events.Name}, time.Millisecond, 100*time.Millisecond
	l.run(reconciler.Run)
	l.awaitHead(tenant, 41)
	l.count("events", 41, `select count(*) from fulcrum.events`)
	l.count("last number", 41, `select max(sequence_number) from fulcrum.events`)
	l.count("positions", 41, `select count(distinct stream_sequence) from fulcrum.events`)
}

// consumeGone makes sure that no consumer is left that could still be served.
func (l *line) consumeGone() {
	l.t.Helper()
	if err := l.js.DeleteConsumer(l.t.Context(), bus.EventsStream, events.Name); err != nil {
		l.t.Fatal(err)
	}
}

// The same while everything runs: the intake finds the stream again by itself.
func TestALostStoreIsADelayUnderLoad(t *testing.T) {
	t.Parallel()
	l := build(t)
	tenant := dbtest.Tenant(t, l.db)
	relay := outbox.NewRelay(l.db.DB, l.bus, quiet)
	l.run(relay.Run)
	l.consume(nil)
	reconciler := outbox.NewReconciler(l.db.DB, relay, quiet)
	reconciler.Consumers, reconciler.Patience, reconciler.Every = []string{events.Name}, 100*time.Millisecond, 100*time.Millisecond
	l.run(reconciler.Run)
	for i := range 200 {
		l.append(newEvent(tenant, "x", "run"))
		if i == 100 {
			if err := l.server.DeleteStore(); err != nil {
				t.Fatal(err)
			}
		}
		if i == 150 {
			if err := l.server.Restart(); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.awaitHead(tenant, 200)
	l.count("events", 200, `select count(*) from fulcrum.events`)
	l.count("last number", 200, `select max(sequence_number) from fulcrum.events`)
}

// Eight instances share the work, and acks get lost on the way.
func TestManyConsumersKeepNumbersDense(t *testing.T) {
	t.Parallel()
	l := build(t)
	tenants := []uuid.UUID{dbtest.Tenant(t, l.db), dbtest.Tenant(t, l.db), dbtest.Tenant(t, l.db)}
	var es []*busv1.Event
	for i := range 900 {
		es = append(es, newEvent(tenants[i%3], "x", fmt.Sprintf("run %d", i%5)))
	}
	l.intake.AfterCommit = func() error {
		lost := false
		l.note(func() { l.commits++; lost = l.commits%7 == 0 })
		if lost {
			return errors.New("ack lost")
		}
		return nil
	}
	for range 8 {
		l.consume(func(c *bus.Consumer) { c.Batch = 16 })
	}
	for _, err := range l.bus.PublishAll(t.Context(), es) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tenant := range tenants {
		l.awaitHead(tenant, 300)
	}
	l.count("events", 900, `select count(*) from fulcrum.events`)
	l.count("counted", 900, `select sum(events) from metrics.agent_hours`)
	l.count("executions with a gap", 0, `select count(*) from (select 1 from fulcrum.events group by tenant_id, execution_key
		having count(*) <> max(sequence_number) or count(distinct sequence_number) <> count(*)) x`)
	l.count("tenants with a gap", 0, `select count(*) from (select 1 from fulcrum.events group by tenant_id
		having count(*) <> max(stream_sequence) or count(distinct stream_sequence) <> count(*)) x`)
	if dead := len(l.dead); dead > 0 {
		t.Errorf("%d dead letters: %s", dead, strings.TrimSpace(l.dead[0].Err.Error()))
	}
}
