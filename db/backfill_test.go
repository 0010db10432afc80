package db_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// texts returns the first column of a query, as text.
func texts(t *testing.T, d *dbtest.Database, query string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lines is a query of whole rows of a table as text, in order.
func lines(columns, table string) string {
	return fmt.Sprintf(`select concat_ws(' ', %s) from fulcrum.%s order by 1`, columns, table)
}

// A charge, by its number: what it cost, and in how many tokens and calls.
const past = `(values
	(1, '2026-03-01 10:40Z'::timestamptz, false, 'm', 'mine', 500, 100, 8, 1, false),    -- priced
	(2, '2026-03-01 10:50Z', true, 'm', 'mine', 300, 100, 8, 1, false),                  -- late
	(3, '2026-03-01 10:55Z', false, 'm', 'as-held', 100, 64, 64, 1, false),              -- what was held
	(4, '2026-03-01 11:10Z', false, 'm', 'as-held', 100, 65, 0, 1, false),               -- told, at a price nobody knows
	(5, '2026-03-01 11:20Z', false, 'm', 'mine', 40, 100, 8, 1, true),                   -- failed
	(6, '2026-03-02 00:10Z', false, '', '', 7, 0, 0, 0, false)                           -- a tool
	) c(n, at, late, model, version, cost, input, output, calls, failed)`

// What was charged before the hours, the sizes of calls and the runs were counted
// is counted from the ledger, by the hours of the tenant's clock; and what
// somebody had put right by hand is in the summaries. What is counted rightly
// already stays as it is, also when it is all done again.
func TestWhatWasChargedBeforeIsCounted(t *testing.T) {
	t.Parallel()
	const before, after = 149, 151
	d := dbtest.Bare(t)
	if err := db.MigrateTo(t.Context(), d.MigrateURL, before); err != nil {
		t.Fatal(err)
	}
	const tenants = `(values ('0192f0c5-0001-7000-8000-000000000001'::uuid), ('0192f0c5-0001-7000-8000-000000000002')) t(id)`
	const id = `('0192f0c5-0002-7000-8000-00000000000' || c.n)::uuid`
	// The tenants' hours begin at half past, as in India.
	const hour = `date_trunc('hour', c.at - interval '30 min') + interval '30 min'`
	dbtest.Admin(t, d,
		`insert into fulcrum.reservations (tenant_id, id, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, workflow_id, envelope_id, created_at, expires_at, budget_ids, window_starts)
			select t.id, `+id+`, sha256('x'), 100, 128, 64, 64, 1, 0, 0, 'w', 'e', c.at - interval '1 min', c.at, array['all', 'envelope:e', 'team'], array['epoch'::timestamptz, 'epoch', '2026-03-01Z'] from `+tenants+`, `+past,
		`insert into fulcrum.settlements (tenant_id, reservation_id, late, kind, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, model, price_version, failed, created_at)
			select t.id, `+id+`, c.late, 'settled', sha256('x'), c.cost, c.input + c.output, c.input, c.output, c.calls, 0, 0, c.model, c.version, c.failed, c.at from `+tenants+`, `+past,
		`insert into fulcrum.settlements (tenant_id, reservation_id, kind, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at)
			select t.id, `+id+`, 'expired', sha256('x'), 0, 0, 0, 0, 0, 0, 0, c.at from `+tenants+`, `+past+` where c.late`,
		// A re-rating of the first, from 500 to 400, which the summaries know.
		`insert into fulcrum.charge_corrections (tenant_id, reservation_id, number, rerate_id, old_nano, new_nano, price_version, created_at)
			select t.id, `+id+`, 1, gen_random_uuid(), 500, 400, 'mine', now() from `+tenants+`, `+past+` where c.n = 1`,
		`insert into fulcrum.spend_rollups (tenant_id, hour, workflow_id, team, agent_id, api_key_id, model, cost_nano, charges)
			select t.id, `+hour+`, 'w', '', '', '', c.model, sum(c.cost) - 100 * count(*) filter (where c.n = 1), count(*) from `+tenants+`, `+past+` group by 1, 2, 7`,
		`insert into fulcrum.envelope_costs (tenant_id, envelope_id, model, cost_nano, charges)
			select t.id, 'e', c.model, sum(c.cost) - 100 * count(*) filter (where c.n = 1), count(*) from `+tenants+`, `+past+` group by 1, 3`,
		// The first was put right twice, the fifth by more than it cost; and a budget alone.
		`insert into fulcrum.ledger_movements (tenant_id, idempotency_key, id, request_hash, kind, budget_id, reservation_id, cost_nano, balance_nano, reason, actor, occurred_at)
			select t.id, m.key, gen_random_uuid(), sha256('x'), 'correction', m.budget, m.reservation, m.cost, 0, 'r', 'user:ada', m.at from `+tenants+`, (values
				('a', '', '0192f0c5-0002-7000-8000-000000000001'::uuid, -50, '2026-03-03Z'::timestamptz), ('b', '', '0192f0c5-0002-7000-8000-000000000001', 20, '2026-03-04Z'),
				('c', '', '0192f0c5-0002-7000-8000-000000000005', -60, '2026-03-04Z'), ('d', 'all', null, -9, '2026-03-04Z')) m(key, budget, reservation, cost, at)`,
		// One window of the second tenant has its hours already, marked by a token;
		// another has some of them.
		`insert into fulcrum.budget_hours (tenant_id, budget_id, hour, window_start, model, cost_nano, total_tokens, charges)
			select '0192f0c5-0001-7000-8000-000000000002', h.budget, h.hour, h.start, h.model, h.cost, 1, h.charges from (values
				('all', '2026-03-01 10:30Z'::timestamptz, 'epoch'::timestamptz, 'm', 870, 5), ('all', '2026-03-01 23:30Z', 'epoch', '', 7, 1),
				('team', '2026-03-01 10:30Z', '2026-03-01Z', 'm', 5, 1)) h(budget, hour, start, model, cost, charges)`)

	clock := func(column string) string { return `to_char(` + column + ` at time zone 'UTC', 'DD HH24:MI')` }
	for _, version := range []int64{after, before, after} {
		if err := db.MigrateTo(t.Context(), d.MigrateURL, version); err != nil {
			t.Fatal(err)
		}
		for query, want := range map[string][]string{
			lines(clock("hour")+`, model, cost_nano`, "spend_rollups where tenant_id::text like '%1'"):                                               {"01 10:30 m 870", "01 23:30  7"},
			lines(`model, cost_nano, workflow_id, `+clock("started_at"), "envelope_costs where tenant_id::text like '%2'"):                           {" 7 w 02 00:10", "m 870 w 01 10:40"},
			lines(`right(reservation_id::text, 1), number, old_nano, new_nano, price_version`, "charge_corrections where tenant_id::text like '%1'"): {"1 1 500 400 mine", "1 2 400 350 by-hand", "1 3 350 370 by-hand", "5 1 40 0 by-hand"},
			lines(`right(tenant_id::text, 1), budget_id, `+clock("hour")+`, `+clock("window_start")+`, model, cost_nano, total_tokens, charges`, "budget_hours"): {
				"1 all 01 10:30 01 00:00 m 870 517 5", "1 all 01 23:30 01 00:00  7 0 1", "1 team 01 10:30 01 00:00 m 870 517 5", "1 team 01 23:30 01 00:00  7 0 1",
				"2 all 01 10:30 01 00:00 m 870 1 5", "2 all 01 23:30 01 00:00  7 1 1", "2 team 01 10:30 01 00:00 m 870 517 5", "2 team 01 23:30 01 00:00  7 0 1",
			},
			lines(`workflow_id, model, day, input_bucket, output_bucket, calls, input_tokens, cost_nano`, "call_sizes where tenant_id::text like '%1'"): {
				"w m 2026-03-01 13 -1 1 65 100", "w m 2026-03-01 14 6 2 200 800",
			},
		} {
			if version == after {
				if got := texts(t, d, query); !slices.Equal(got, want) {
					t.Errorf("%s\n%q\nwant\n%q", query, got, want)
				}
			}
		}
	}
	if bad, err := db.Lint(t.Context(), d.AppURL); err != nil || len(bad) > 0 {
		t.Errorf("row level security afterwards: %v, %v", bad, err)
	}
}
