package postgres

import (
	"math"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/agents"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

func TestAnAgentIsMeasured(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	// Whole periods that have ended, so that the clock cannot move one during the test.
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(-24 * time.Hour)
	var facts []journal.Fact
	for i := range 100 {
		verdict := "ALLOW"
		if i < 7 {
			verdict = "DENY"
		}
		f := decision(tenant, "agent", verdict, time.Duration(i+1)*time.Millisecond)
		f.OccurredAt = day.Add(time.Hour) // all in one minute
		facts = append(facts, f)
	}
	paid, failed, other := charge(tenant, "agent", 2_500_000_000, 10, 20), newFact(tenant, "tool_call_failed", "run"), charge(tenant, "other", 1, 1, 1)
	failed.AgentID, failed.Failed = "agent", true
	for _, f := range []journal.Fact{paid, failed, other} {
		f.OccurredAt = day.Add(2*time.Hour + time.Minute)
		facts = append(facts, f)
	}
	record(t, s, facts...)

	for _, p := range []agents.Period{agents.Hourly, agents.Daily, agents.Realtime} {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			reports, current, err := agents.Metrics(t.Context(), s, tenant, "agent", p, day, day.Add(3*time.Hour), time.Now())
			if p == agents.Daily {
				reports, current, err = agents.Metrics(t.Context(), s, tenant, "agent", p, day, day.Add(24*time.Hour), time.Now())
			}
			if err != nil {
				t.Fatal(err)
			}
			if current.Requests != 0 || current.Start.IsZero() {
				t.Errorf("current: %+v", current)
			}
			if periods := map[bool]int{true: 1, false: 2}[p == agents.Daily]; len(reports) != periods {
				t.Fatalf("%d periods, want %d", len(reports), periods)
			}
			first, last := reports[0], reports[len(reports)-1]
			want(t, "requests", first.Requests, 100)
			want(t, "violations", first.Violations, 7)
			want(t, "errors", last.Errors, 1)
			want(t, "cost", int64(last.Cost), 2_500_000_000)
			want(t, "tokens", last.Input*100+last.Output, 1020)
			about := func(what string, got, want time.Duration) {
				if math.Abs(float64(got-want)) > float64(20*time.Microsecond) {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			about("mean", first.Latency.Mean, 50500*time.Microsecond)
			about("p50", first.Latency.P50, 50500*time.Microsecond)
			about("p95", first.Latency.P95, 95050*time.Microsecond)
			about("p99", first.Latency.P99, 99010*time.Microsecond)
			if last.LastSeen.Before(day.Add(2 * time.Hour)) {
				t.Errorf("last seen %v", last.LastSeen)
			}
		})
	}
}

func TestTheRunningPeriodIsReported(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	f := decision(tenant, "agent", "DENY", time.Millisecond)
	record(t, s, f)
	_, current, err := agents.Metrics(t.Context(), s, tenant, "agent", agents.Daily, time.Time{}, time.Time{}, f.OccurredAt)
	if err != nil || current.Requests != 1 || current.Violations != 1 || current.Latency.P99 != time.Millisecond {
		t.Errorf("%+v, %v", current, err)
	}
}

// A time that can only be wrong does not spread telemetry over the centuries.
func TestWrongTimesAreMeasuredNow(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	past, future := newFact(tenant, "x", ""), newFact(tenant, "x", "")
	past.OccurredAt, future.OccurredAt = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
	record(t, s, past, future)
	want(t, "events at their own time", dbtest.Count(t, d, `select count(distinct occurred_at) from fulcrum.events`), 2)
	want(t, "counted now", dbtest.Count(t, d, `select sum(value) from metrics.metrics where at between now() - interval '5 minutes' and now() and name = 'events'`), 2)
	want(t, "rows in the default partition", dbtest.Count(t, d, `select count(*) from metrics.metrics_default`), 0)
}
