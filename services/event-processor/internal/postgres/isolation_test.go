package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/agents"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// Telemetry has no row level security, so nothing of it may be readable but the
// views: no table, no partition, old or new.
func TestTheAppReadsNoMetricsTable(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	record(t, s, charge(tenant, "a", 1, 1, 1), decision(tenant, "a", "ALLOW", time.Millisecond))
	dbtest.Admin(t, d, `select metrics.ensure_days('metrics.cost_events', 9, 9), metrics.ensure_days('metrics.decision_latency', 9, 9),
		metrics.ensure_days('metrics.metrics', 9, 9), fulcrum.ensure_partitions('metrics.agent_hours', 3, 3), fulcrum.ensure_partitions('fulcrum.events', 3, 3)`)

	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), `
		select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where (n.nspname = 'metrics' and c.relkind in ('r', 'p')) or (n.nspname = 'fulcrum' and c.relispartition and c.relkind = 'r')`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) < 60 {
		t.Fatalf("%d tables, %v", len(names), err)
	}
	app, err := pgx.Connect(t.Context(), d.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close(context.WithoutCancel(t.Context()))
	for _, name := range names {
		for _, sql := range []string{"select 1 from %s", "insert into %s default values", "delete from %s", "truncate %s"} {
			if _, err := app.Exec(t.Context(), fmt.Sprintf(sql, name)); !db.Is(err, "42501") {
				t.Errorf(sql+": %v", name, err)
			}
		}
	}
	if found, err := db.Lint(t.Context(), d.AdminURL); err != nil || len(found) > 0 {
		t.Errorf("lint: %v, %v", found, err)
	}
}

func TestMetricsShowOneTenant(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	mine, theirs := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	record(t, s, charge(mine, "a", 1, 1, 1), decision(mine, "a", "DENY", time.Millisecond))
	for _, view := range []string{"metrics_v", "cost_events_v", "decision_latency_v", "agent_hours_v", "agent_days_v"} {
		for tenant, some := range map[uuid.UUID]bool{mine: true, theirs: false} {
			err := d.DB.Read(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
				var n int
				err := tx.QueryRow(ctx, "select count(*) from metrics."+view).Scan(&n)
				if (n > 0) != some {
					t.Errorf("%s shows %d rows, some wanted: %t", view, n, some)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		err := d.DB.Global(t.Context(), func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, "select * from metrics."+view)
			return err
		})
		if !db.Is(err, "FT001") {
			t.Errorf("%s without a tenant: %v", view, err)
		}
	}
	reports, err := s.Reports(t.Context(), theirs, "a", agents.Hourly, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil || len(reports) != 0 {
		t.Errorf("another tenant's agent of the same name: %v, %v", reports, err)
	}
}

func TestTelemetryOfAnotherTenantIsRefused(t *testing.T) {
	t.Parallel()
	_, d := open(t)
	mine, theirs := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	now := []time.Time{time.Now(), time.Now()}
	one, word := []int64{1, 1}, []string{"", ""}
	for _, tenants := range [][]uuid.UUID{{mine, theirs}, {mine, uuid.Nil}} {
		for name, ingest := range map[string]func(ctx context.Context, q *eventsdb.Queries) error{
			"costs": func(ctx context.Context, q *eventsdb.Queries) error {
				return q.IngestCosts(ctx, eventsdb.IngestCostsParams{TenantIds: tenants, Ats: now, EventIds: tenants, AgentIds: word, Teams: word,
					UserIds: word, ApiKeyIds: word, WorkflowIds: word, EnvelopeIds: word, Models: word, CostNanos: one, InputTokens: one, OutputTokens: one,
					CachedTokens: one, ReasoningTokens: one, LlmCalls: one, ToolCalls: one, Seconds: one, PriceVersions: word, ReservationIds: word})
			},
			"decisions": func(ctx context.Context, q *eventsdb.Queries) error {
				return q.IngestDecisions(ctx, eventsdb.IngestDecisionsParams{TenantIds: tenants, Ats: now, EventIds: tenants, AgentIds: word,
					Actions: word, Decisions: word, TotalsUs: one, EvaluatesUs: one, ReservesUs: one})
			},
			"counters": func(ctx context.Context, q *eventsdb.Queries) error {
				return q.IngestCounters(ctx, eventsdb.IngestCountersParams{TenantIds: tenants, Minutes: now, AgentIds: word, LastAts: now,
					Events: one, Errors: one, Decisions: one, Denials: one, CostNanos: one, InputTokens: one, OutputTokens: one})
			},
		} {
			err := d.DB.WithTenants(t.Context(), []uuid.UUID{mine}, func(ctx context.Context, tx db.Tx) error { return ingest(ctx, eventsdb.New(tx)) })
			if !db.Is(err, "42501") {
				t.Errorf("%s of %v: %v", name, tenants, err)
			}
			err = d.DB.Global(t.Context(), func(ctx context.Context, tx db.Tx) error { return ingest(ctx, eventsdb.New(tx)) })
			if !db.Is(err, "FT001") {
				t.Errorf("%s without a tenant: %v", name, err)
			}
		}
	}
	want(t, "rows", dbtest.Count(t, d, `select (select count(*) from metrics.cost_events) + (select count(*) from metrics.metrics)`), 0)
}

func TestEventsShowOneTenant(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	mine, theirs := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	record(t, s, newFact(mine, "x", "run"))
	record(t, s, newFact(theirs, "x", "run"), newFact(theirs, "x", "run"))
	if events, err := s.After(t.Context(), mine, journal.Filter{Execution: "run"}, 0, 100, 100); err != nil || len(events) != 1 {
		t.Errorf("%d events, %v", len(events), err)
	}
	if e, err := s.Execution(t.Context(), mine, "run"); err != nil || e.Events != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if totals, err := s.Totals(t.Context(), mine); err != nil || totals.Events != 1 || totals.ByType["x"] != 1 {
		t.Errorf("%+v, %v", totals, err)
	}
	// And past our own predicates, the database says the same.
	err := d.DB.Read(t.Context(), mine, func(ctx context.Context, tx db.Tx) error {
		var n int
		err := tx.QueryRow(ctx, `select count(*) from fulcrum.events`).Scan(&n)
		want(t, "visible events", int64(n), 1)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
