package db_test

import (
	"slices"
	"testing"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// sums are the windows of a ledger that has entries of a row each, and what they
// add up to: spent and held, by the counters and by the entries.
const sums = `select concat_ws(' ', right(w.tenant_id::text, 1), w.budget_id, w.mode, w.cost_nano_spent, w.cost_nano_held, e.spent, e.held) from fulcrum.budget_windows w
	left join (select x.tenant_id, x.budget_id, sum(x.cost_nano * (x.to_account = 'spent')::int - x.cost_nano * (x.from_account = 'spent')::int) as spent,
			sum(x.cost_nano * (x.to_account = 'held')::int - x.cost_nano * (x.from_account = 'held')::int) as held
		from fulcrum.ledger_entries x group by 1, 2) e using (tenant_id, budget_id) order by 1`

// A ledger with wallets, corrections, and charges that no budget covers, taken
// back to before there were any: they are gone from it altogether, what is left
// adds up and has its causes, and it goes up again.
func TestTheWayBackToBeforeWalletsTakesThemOutOfTheBooks(t *testing.T) {
	t.Parallel()
	const before, wallets = 80, 81
	d := dbtest.Bare(t)
	const tenants = `(values ('0192f0c5-0001-7000-8000-000000000001'::uuid), ('0192f0c5-0001-7000-8000-000000000002')) t(id)`
	const id = `('0192f0c5-0002-7000-8000-00000000000' || n)::uuid`
	dbtest.Admin(t, d,
		// One is charged 12 of 20 to a budget and a wallet, one 5 to nobody's budget, one holds 3.
		`insert into fulcrum.reservations (tenant_id, id, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at, expires_at, budget_ids, window_starts)
			select t.id, `+id+`, sha256('x'), cost, 0, 0, 0, 0, 0, 0, now(), now() + interval '1 h', budgets, array_fill('epoch'::timestamptz, array[cardinality(budgets)])
			from `+tenants+`, (values (1, 20, array['all', 'wallet:w']), (2, 0, array['suspense']), (3, 3, array['all', 'wallet:w'])) r(n, cost, budgets)`,
		`insert into fulcrum.settlements (tenant_id, reservation_id, kind, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at)
			select t.id, `+id+`, 'settled', sha256('x'), cost, 0, 0, 0, 0, 0, 0, now() from `+tenants+`, (values (1, 12), (2, 5)) s(n, cost)`,
		`insert into fulcrum.budget_windows (tenant_id, budget_id, window_start, window_end, config_version, mode, cost_nano_limit, cost_nano_spent, cost_nano_held)
			select t.id, budget, 'epoch', '9999-12-31Z', 1, mode, lim, spent, held
			from `+tenants+`, (values ('all', 1, 50, 10, 3), ('wallet:w', 4, 100, 12, 3), ('suspense', 2, 0, 5, 0)) w(budget, mode, lim, spent, held)`,
		// A top-up; hold, charge, hold; what nobody covers; a correction of the budget, of the wallet and back.
		`insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids)
			select t.id, now(), `+id+`, array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid()],
				array['topup', 'hold', 'settle', 'charge', 'correction', 'correction'],
				array['00000000-0000-0000-0000-000000000000', r.a, r.a, r.b, '00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000']::uuid[]
			from `+tenants+`, (values (9, '0192f0c5-0002-7000-8000-000000000001', '0192f0c5-0002-7000-8000-000000000002')) r(n, a, b)`,
		`insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
			select b.tenant_id, p.budget, 'epoch', b.occurred_at, b.id, p.refs::int[], p.lines::smallint[], p.moves::smallint[], p.cost::bigint[], '{}', '{}', '{}', '{}', '{}', '{}'
			from fulcrum.ledger_batches b, (values
				('all', '{2,3,3,2,5}', '{0,0,1,3,0}', '{12,23,21,12,31}', '{20,12,8,3,2}'),
				('wallet:w', '{1,2,3,3,2,6,6}', '{0,1,2,3,4,0,1}', '{61,12,23,21,12,31,13}', '{100,20,12,8,3,1,1}'),
				('suspense', '{4}', '{0}', '{53}', '{5}')) p(budget, refs, lines, moves, cost)`,
		`insert into fulcrum.ledger_movements (tenant_id, idempotency_key, id, request_hash, kind, budget_id, cost_nano, balance_nano, reason, actor, occurred_at)
			select b.tenant_id, 'k' || x.n, b.transaction_ids[x.n], sha256('x'), b.kinds[x.n], x.budget, x.cost, 0, 'r', 'user:ada', now()
			from fulcrum.ledger_batches b, (values (1, 'wallet:w', 100), (5, 'all', -2), (6, 'wallet:w', -1)) x(n, budget, cost)`,
		`insert into fulcrum.ledger_checks (tenant_id, budget_id, window_start, through, sums)
			select w.tenant_id, w.budget_id, 'epoch', now() - interval '1 d', array_fill(0::bigint, array[22]) from fulcrum.budget_windows w`)
	told := func(when string, want ...string) {
		t.Helper()
		if got := texts(t, d, sums); !slices.Equal(got, want) {
			t.Errorf("%s\n%q\nwant\n%q", when, got, want)
		}
	}
	told("at first", "1 all 1 10 3 10 3", "1 suspense 2 5 0 5 0", "1 wallet:w 4 12 3 12 3", "2 all 1 10 3 10 3", "2 suspense 2 5 0 5 0", "2 wallet:w 4 12 3 12 3")
	to := func(version int64) {
		t.Helper()
		if err := db.MigrateTo(t.Context(), d.MigrateURL, version); err != nil {
			t.Fatalf("to %d: %v", version, err)
		}
	}
	to(before)
	told("before wallets", "1 all 1 10 3 10 3", "2 all 1 10 3 10 3")
	for name, query := range map[string]string{
		"entries of what is gone":          `select count(*) from fulcrum.ledger_entries where budget_id not in ('all', '') or 'external' in (from_account, to_account)`,
		"entries without a transaction":    `select count(*) from fulcrum.ledger_entries e where not exists (select from fulcrum.ledger_transactions k where k.tenant_id = e.tenant_id and k.id = e.transaction_id)`,
		"transactions that move nothing":   `select count(*) from fulcrum.ledger_transactions k where not exists (select from fulcrum.ledger_entries e where k.tenant_id = e.tenant_id and k.id = e.transaction_id)`,
		"holds in windows that are gone":   `select count(*) from fulcrum.reservation_parts p where not exists (select from fulcrum.budget_windows w where w.tenant_id = p.tenant_id and w.budget_id = p.budget_id)`,
		"sums kept of what was":            `select count(*) from fulcrum.ledger_checks`,
		"charges that nobody paid for":     `select 2 - count(*) from fulcrum.ledger_entries where budget_id = '' and from_account = 'suspense' and cost_nano = 5`,
		"holds that hold nowhere any more": `select 4 - count(*) from fulcrum.reservation_parts where budget_id = 'all'`,
	} {
		if n := dbtest.Count(t, d, query); n != 0 {
			t.Errorf("%d %s", n, name)
		}
	}
	to(wallets)
	to(151)
	told("up again", "1 all 1 10 3 10 3", "2 all 1 10 3 10 3")
	if found, err := db.Lint(t.Context(), d.AppURL); err != nil || len(found) > 0 {
		t.Errorf("row level security afterwards: %v, %v", found, err)
	}
}
