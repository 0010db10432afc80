package postgres

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// dense fails unless every position and every number from 1 on is there once.
func dense(t *testing.T, d *dbtest.Database) {
	t.Helper()
	want(t, "tenants whose positions have a gap or a double", dbtest.Count(t, d, `
		select count(*) from (
			select tenant_id from fulcrum.events group by tenant_id
			having count(*) <> max(stream_sequence) or count(distinct stream_sequence) <> count(*)
			    or count(*) <> (select h.last_sequence from fulcrum.event_heads h where h.tenant_id = events.tenant_id)) x`), 0)
	want(t, "executions whose numbers have a gap or a double", dbtest.Count(t, d, `
		select count(*) from (
			select tenant_id, execution_key from fulcrum.events group by tenant_id, execution_key
			having count(*) <> max(sequence_number) or count(distinct sequence_number) <> count(*)
			    or count(*) <> (select s.last_sequence from fulcrum.execution_sequences s
			                    where s.tenant_id = events.tenant_id and s.execution_key = events.execution_key)) x`), 0)
	want(t, "events stored twice", dbtest.Count(t, d, `
		select count(*) from (select 1 from fulcrum.events group by tenant_id, event_id having count(*) > 1) x`), 0)
	want(t, "tenants whose stored_at runs backwards", dbtest.Count(t, d, `
		select count(*) from (select stored_at < lag(stored_at) over (partition by tenant_id order by stream_sequence) as back from fulcrum.events) x where back`), 0)
	want(t, "totals that are not the events", dbtest.Count(t, d, `
		select count(*) from (select tenant_id, type, count(*) as n, sum(size_bytes) as b from fulcrum.events group by 1, 2) e
		full join (select tenant_id, type, sum(events) as n, sum(bytes) as b from fulcrum.event_totals group by 1, 2) t using (tenant_id, type)
		where (e.n, e.b) is distinct from (t.n, t.b)`), 0)
}

func TestFactsAreNumberedWithoutGaps(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	a, b := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	envelope := newFact(a, "envelope_created", "")
	envelope.EnvelopeID = "run 1" // shares the numbering of the execution of that name
	receipt := record(t, s, newFact(a, "x", "run 1"), newFact(b, "x", "run 1"), envelope, newFact(a, "y", "run 2"), newFact(a, "z", ""))
	want(t, "head of a", receipt.Heads[a], 4)
	want(t, "head of b", receipt.Heads[b], 1)
	record(t, s, newFact(a, "x", "run 1"))
	dense(t, d)
	want(t, "events of run 1 of a", dbtest.Count(t, d, `select max(sequence_number) from fulcrum.events where tenant_id = $1 and execution_key = 'run 1'`, a), 3)
	want(t, "events of no run", dbtest.Count(t, d, `select count(*) from fulcrum.events where execution_key = '-'`), 1)
}

// An event delivered again, whenever, adds neither a row nor a cent.
func TestAnEventCountsOnce(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	paid, denied := charge(tenant, "agent", 700, 10, 5), decision(tenant, "agent", "DENY", 3*time.Millisecond)

	for _, when := range []string{"first", "twice in one batch", "again", "after the inbox forgot"} {
		if when == "after the inbox forgot" {
			dbtest.Admin(t, d, `delete from fulcrum.inbox`)
		}
		receipt := record(t, s, paid, denied, paid, denied)
		if fresh := len(receipt.Fresh); (when == "first") != (fresh == 2) || (when != "first") != (fresh == 0) {
			t.Errorf("%s: %d fresh", when, fresh)
		}
	}
	dense(t, d)
	want(t, "events", dbtest.Count(t, d, `select count(*) from fulcrum.events`), 2)
	want(t, "charges", dbtest.Count(t, d, `select sum(cost_nano) from metrics.cost_events`), 700)
	want(t, "decisions", dbtest.Count(t, d, `select count(*) from metrics.decision_latency`), 1)
	want(t, "counted cost", dbtest.Count(t, d, `select sum(value) from metrics.metrics where name = 'cost_nano'`), 700)
	want(t, "counted denials", dbtest.Count(t, d, `select sum(denials) from metrics.agent_hours`), 1)
	want(t, "counted events", dbtest.Count(t, d, `select sum(events) from metrics.agent_hours`), 2)
}

// What callers publish may look like ours and must never be counted as ours.
func TestCallersCannotCharge(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	forged := decision(tenant, "agent", "DENY", time.Second)
	forged.System, forged.Cost = false, &journal.Cost{Nano: 1_000_000}
	record(t, s, forged)
	want(t, "events", dbtest.Count(t, d, `select count(*) from fulcrum.events where origin = 2`), 1)
	want(t, "charges", dbtest.Count(t, d, `select count(*) from metrics.cost_events`), 0)
	want(t, "latencies", dbtest.Count(t, d, `select count(*) from metrics.decision_latency`), 0)
	want(t, "decisions", dbtest.Count(t, d, `select sum(decisions + denials + cost_nano) from metrics.agent_hours`), 0)
}

// Eight recorders with overlapping batches over the same tenants: every event
// ends up once, nothing deadlocks, no number is missing.
func TestConcurrentRecordersKeepNumbersDense(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenants := []uuid.UUID{dbtest.Tenant(t, d), dbtest.Tenant(t, d), dbtest.Tenant(t, d)}
	var all []journal.Fact
	for i := range 600 {
		f := newFact(tenants[i%3], fmt.Sprintf("type_%d", i%5), fmt.Sprintf("run %d", i%7))
		f.AgentID = fmt.Sprintf("agent %d", i%4)
		all = append(all, f)
	}
	var g errgroup.Group
	for worker := range 8 {
		g.Go(func() error {
			r := rand.New(rand.NewPCG(uint64(worker), 1))
			for _, start := range r.Perm(30) { // each worker records everything, in its own order
				batch := append([]journal.Fact(nil), all[start*20:start*20+20]...)
				r.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
				if _, err := s.Record(t.Context(), batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	want(t, "events", dbtest.Count(t, d, `select count(*) from fulcrum.events`), 600)
	want(t, "counted events", dbtest.Count(t, d, `select sum(events) from metrics.agent_hours`), 600)
	dense(t, d)
}

// Whoever has seen a position has been able to see all below it: it is what
// lets a stream read on from the last one.
func TestPositionsBecomeVisibleInOrder(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	var g errgroup.Group
	for range 6 {
		g.Go(func() error {
			for range 25 {
				if _, err := s.Record(t.Context(), []journal.Fact{newFact(tenant, "x", "a"), newFact(tenant, "x", "b")}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for head := int64(0); head < 300; {
			var err error
			if head, err = s.Head(t.Context(), tenant); err != nil {
				return err
			}
			n, err := s.After(t.Context(), tenant, journal.Filter{}, 0, head, 1000)
			if err != nil {
				return err
			}
			if int64(len(n)) != head {
				return fmt.Errorf("%d events are visible up to position %d", len(n), head)
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	dense(t, d)
}

func TestAnExecutionKnowsWhenItRan(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	began := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	first, second, last := newFact(tenant, "execution_started", "run"), newFact(tenant, "llm_call", "run"), newFact(tenant, "execution_completed", "run")
	first.OccurredAt, second.OccurredAt, last.OccurredAt = began, began.Add(time.Minute), began.Add(2*time.Minute)
	last.Final = true
	record(t, s, second)
	record(t, s, first)
	e, err := s.Execution(t.Context(), tenant, "run")
	if err != nil || e.Events != 2 || !e.Started.Equal(began) || !e.Ended.IsZero() {
		t.Errorf("while it runs: %+v, %v", e, err)
	}
	record(t, s, last)
	e, err = s.Execution(t.Context(), tenant, "run")
	if err != nil || e.Events != 3 || !e.Ended.Equal(last.OccurredAt) {
		t.Errorf("after it: %+v, %v", e, err)
	}
	if e, err := s.Execution(t.Context(), tenant, "unknown"); err != nil || e != (journal.Execution{}) {
		t.Errorf("an unknown one: %+v, %v", e, err)
	}
}

func TestPositionsAreFoundByTime(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	for range 9 {
		record(t, s, newFact(tenant, "x", ""))
	}
	events, err := s.After(t.Context(), tenant, journal.Filter{}, 0, 100, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		got, err := s.StoredBefore(t.Context(), tenant, e.StoredAt)
		if err != nil || got != int64(i) {
			t.Errorf("before event %d: position %d, %v", i+1, got, err)
		}
	}
	got, err := s.StoredBefore(t.Context(), tenant, time.Now().Add(time.Hour))
	if err != nil || got != 9 {
		t.Errorf("before the future: %d, %v", got, err)
	}
	if got, err := s.StoredBefore(t.Context(), dbtest.Tenant(t, d), time.Now()); err != nil || got != 0 {
		t.Errorf("of a tenant without events: %d, %v", got, err)
	}
}
