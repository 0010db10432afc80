package db_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// A ledger that was written before holds were one row, or after, says the same
// on either side of the migration, in every column.
func TestTheBooksSurviveTheWayToPostingsAndBack(t *testing.T) {
	t.Parallel()
	const before, after = 110, 111
	d := dbtest.Bare(t)
	const tenants = `(values ('0192f0c5-0001-7000-8000-000000000001'::uuid), ('0192f0c5-0001-7000-8000-000000000002')) t(id)`
	dbtest.Admin(t, d,
		// Half of them are their own entries, since 165.
		`insert into fulcrum.reservations (tenant_id, id, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at, expires_at, posted, budget_ids, window_starts, vias)
			select t.id, gen_random_uuid(), sha256('x'), n, 0, 3, 0, 0, 7, 0, now() - make_interval(days => n), now() + interval '1 h', n % 4 < 2, array['all', case when n % 3 = 0 then 'wallet:w' else 'team-' || n end], array['epoch', now()],
				case when n % 2 = 0 then '{}'::text[] else array['', 'envelope:e'] end from `+tenants+`, generate_series(1, 20) n`,
		// A charge that no budget covers has no parts.
		`insert into fulcrum.reservations (tenant_id, id, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at, expires_at)
			select t.id, gen_random_uuid(), sha256('x'), 0, 0, 0, 0, 0, 0, 0, now(), now() + interval '1 h' from `+tenants,
		`insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids)
			select t.id, now() - make_interval(days => n), gen_random_uuid(), array[gen_random_uuid(), gen_random_uuid()], array['hold', 'limits'], array[gen_random_uuid(), '00000000-0000-0000-0000-000000000000']
			from `+tenants+`, generate_series(1, 40) n`,
		`insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
			select b.tenant_id, w, 'epoch', b.occurred_at, b.id, '{1,2,1}', '{0,0,1}', '{12,41,61}', '{1,2,3}', '{}', '{0,5,0}', '{}', '{9,9,9}', '{}', '{}'
			from fulcrum.ledger_batches b, unnest(array['', 'all', 'team-1']) w`,
		// What is alike was kept once, since 163.
		`insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids)
			select t.id, now() - make_interval(hours => n), gen_random_uuid(), array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()],
				case when n = 1 then '{hold}'::text[] else '{hold,settle,hold}' end, array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()]
			from `+tenants+`, generate_series(1, 2) n`,
		`insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, entries, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
			select b.tenant_id, w.budget, 'epoch', b.occurred_at, b.id, 3, w.refs, w.lines, w.moves, w.cost, '{}', '{0,5,0}', '{}', '{9}', '{}', '{}'
			from fulcrum.ledger_batches b, (values ('all', '{1}'::int[], '{0}'::smallint[], '{12}'::smallint[], '{7}'::bigint[]), ('team-1', '{1,2,2}', '{0,0,1}', '{12,23,12}', '{1,2,3}')) w(budget, refs, lines, moves, cost)
			where cardinality(b.transaction_ids) = 3`)
	// The columns by name, so that their order does not matter.
	said := func() (out []string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), d.AdminURL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(t.Context()) }()
		for _, name := range []string{"reservation_parts", "ledger_transactions", "ledger_entries"} {
			var rows int
			var sum string
			err := conn.QueryRow(t.Context(), `select count(*), coalesce(md5(string_agg(to_jsonb(x)::text, ',' order by to_jsonb(x)::text)), '') from fulcrum.`+name+` x`).Scan(&rows, &sum)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintln(name, rows, sum))
		}
		return out
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_entries e join fulcrum.ledger_transactions t on t.tenant_id = e.tenant_id and t.id = e.transaction_id
		where (e.budget_id, e.line, e.from_account, e.cost_nano, e.input_tokens, e.llm_calls, t.kind) = ('all', 0, 'available', 7, 0, 9, 'hold')`); n != 8 {
		t.Errorf("%d lines of holds that are kept once, want two of each batch and tenant", n)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_entries e join fulcrum.reservations r on r.tenant_id = e.tenant_id and r.id = e.transaction_id
		where e.cost_nano = r.cost_nano and e.input_tokens = case e.budget_id when 'wallet:w' then 0 else 3 end and e.tool_calls = case e.budget_id when 'wallet:w' then 0 else 7 end
			and e.to_account = 'held' and (e.line = 0 or r.vias = '{}')`); n != 30 {
		t.Errorf("%d lines of holds that are their own entries, want two of five of each tenant and one of five", n)
	}
	want := said()
	for _, version := range []int64{before, after, before, after} {
		if err := db.MigrateTo(t.Context(), d.MigrateURL, version); err != nil {
			t.Fatalf("to %d: %v", version, err)
		}
		if got := said(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("at %d the books say\n%vwant\n%v", version, got, want)
		}
	}
	if want[0][:len("reservation_parts 80")] != "reservation_parts 80" {
		t.Errorf("the test looked at %v", want)
	}
	// An entry that belongs to no transaction is not lost in silence.
	if err := db.MigrateTo(t.Context(), d.MigrateURL, before); err != nil {
		t.Fatal(err)
	}
	dbtest.Admin(t, d, `delete from fulcrum.ledger_transactions where id = (select id from fulcrum.ledger_transactions where kind = 'hold' limit 1)`)
	if err := db.MigrateTo(t.Context(), d.MigrateURL, after); err == nil {
		t.Error("a ledger with an entry of no transaction was rewritten")
	}
}

// A month to come is sampled as shortly as the months that are there.
func TestEveryMonthOfTheLedgerIsSampledShortly(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	const others = `select count(*) from pg_attribute part join pg_inherits i on i.inhrelid = part.attrelid join pg_attribute parent on parent.attrelid = i.inhparent and parent.attname = part.attname
		where i.inhparent in ('fulcrum.ledger_batches'::regclass, 'fulcrum.ledger_postings'::regclass) and part.attnum > 0 and (part.attstattarget <> parent.attstattarget or part.attstattarget not in (0, 10))`
	if n := dbtest.Count(t, d, others); n != 0 {
		t.Errorf("%d columns of months that are there", n)
	}
	dbtest.Admin(t, d, `do $$ begin execute format('drop table fulcrum.ledger_postings_%s', to_char(now() + interval '1 month', '"y"YYYY"m"MM')); end $$`)
	var made int
	err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		return tx.QueryRow(ctx, `select fulcrum.ensure_ledger_partitions()`).Scan(&made)
	})
	if n := dbtest.Count(t, d, others); err != nil || made != 1 || n != 0 {
		t.Errorf("made %d months, %v; %d columns are sampled as others", made, err, n)
	}
}

// What the check kept before holds were their own entries goes on to be what was
// posted: nothing is added up from the beginning.
func TestTheCheckGoesOnFromWhatItKept(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	if err := db.MigrateTo(t.Context(), d.MigrateURL, 164); err != nil {
		t.Fatal(err)
	}
	dbtest.Admin(t, d, `insert into fulcrum.ledger_checks (tenant_id, budget_id, window_start, through, sums)
		select gen_random_uuid(), 'all', 'epoch', '2026-01-01', array_fill(n::bigint, array[20 + n]) from generate_series(1, 2) n`)
	if err := db.MigrateTo(t.Context(), d.MigrateURL, 166); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_sums s join fulcrum.ledger_checks c using (tenant_id, budget_id, window_start, through)
		where s.posted = c.sums and s.posted = array_fill(2::bigint, array[22]) and s.held = array_fill(0::bigint, array[7])`); n != 1 {
		t.Errorf("%d sums of 22 were taken over, want 1", n)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_sums`); n != 1 {
		t.Errorf("%d sums, want those of the only window that had as many as are kept now", n)
	}
}

func TestSumsWrapAsBigintsDo(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	if n := dbtest.Count(t, d, `select count(*) from (values (0, 0), (-1, -1), (9223372036854775807, 9223372036854775807), (9223372036854775808, -9223372036854775808), (-9223372036854775808, -9223372036854775808),
		(-9223372036854775809, 9223372036854775807), (18446744073709551616, 0), (-18446744073709551617, -1), (1e30, 5076944270305263616)) v(n, want) where fulcrum.wrapped(n) <> want`); n != 0 {
		t.Errorf("%d numbers are not wrapped as they should be", n)
	}
}
