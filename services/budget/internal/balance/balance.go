// Package balance is the tests' own bookkeeper: it adds the ledger up with SQL of
// its own, as the superuser, past row level security.
package balance

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

var units = []string{"cost_nano", "total_tokens", "input_tokens", "output_tokens", "llm_calls", "tool_calls", "seconds"}

// Check fails the test unless every counter of the database at adminURL is what
// the ledger's entries, and independently the reservations and settlements, add
// up to, and nothing is used beyond a limit that is not accounted for. Budgets
// that are hard now must have been hard all the time.
func Check(t testing.TB, adminURL string) {
	t.Helper()
	CheckSums(t, adminURL)
	for _, row := range rows(t, adminURL, overageUnexplained()) {
		t.Errorf("a hard budget has overage that nothing explains: %s", row)
	}
}

// CheckSums is Check for budgets whose mode changed.
func CheckSums(t testing.TB, adminURL string) {
	t.Helper()
	for name, query := range map[string]string{
		"a counter differs from its entries":                        countersAgainstEntries(),
		"held differs from the open reservations":                   heldAgainstReservations(),
		"spent differs from the settlements":                        spentAgainstSettlements(),
		"more is used than the limit and its overage":               overspent(),
		"rollups differ from the settlements":                       rollupsAgainstSettlements("spend_rollups"),
		"the hours of a window differ from what is spent in it":     hoursAgainstWindows,
		"the costs of an envelope differ from its settlements":      envelopesAgainstSettlements,
		"the credit of a wallet differs from what was put in":       creditAgainstMovements,
		"a reservation without parts, or parts without reservation": orphans,
	} {
		for _, row := range rows(t, adminURL, query) {
			t.Errorf("%s: %s", name, row)
		}
	}
}

func rows(t testing.TB, adminURL, query string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), adminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	found, err := conn.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	out, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return fmt.Sprint(values...), err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

// each makes one expression of every unit.
func each(sep, format string) string {
	parts := make([]string, len(units))
	for i, u := range units {
		parts[i] = strings.ReplaceAll(format, "U", u)
	}
	return strings.Join(parts, sep)
}

func countersAgainstEntries() string {
	return `select w.tenant_id::text, w.budget_id, w.window_start::text from fulcrum.budget_windows w left join (
		select tenant_id, budget_id, window_start, ` + each(", ", `
			coalesce(sum(U) filter (where to_account = 'held'), 0) - coalesce(sum(U) filter (where from_account = 'held'), 0) as U_held,
			coalesce(sum(U) filter (where to_account = 'spent'), 0) - coalesce(sum(U) filter (where from_account = 'spent'), 0) as U_spent,
			coalesce(sum(U) filter (where from_account = 'overage'), 0) - coalesce(sum(U) filter (where to_account = 'overage'), 0) as U_over`) + `
		from fulcrum.ledger_entries group by 1, 2, 3) e using (tenant_id, budget_id, window_start)
		where ` + each(" or ", `w.U_held <> coalesce(e.U_held, 0) or w.U_spent <> coalesce(e.U_spent, 0) or w.U_over <> coalesce(e.U_over, 0)`)
}

// heldAgainstReservations: open reservations where they hold by themselves, and
// the shares of the slices that are held for envelopes below.
func heldAgainstReservations() string {
	return `select w.tenant_id::text, w.budget_id, w.cost_nano_held from fulcrum.budget_windows w left join (
		select c.tenant_id, h.budget_id, ` + each(", ", `sum(case when c.U_limit = 0 then 0 when c.suspended then least(c.U_held, greatest(c.U_limit - c.U_spent, 0))
			else greatest(c.U_limit - c.U_spent, 0) end) as U`) + `
		from fulcrum.envelope_slices s cross join lateral unnest(s.behind, s.vias) as h(budget_id, via)
		join fulcrum.budget_windows c on c.tenant_id = s.tenant_id and c.budget_id = h.via
		where h.via = 'envelope:' || s.envelope_id group by 1, 2) x using (tenant_id, budget_id) left join (
		select p.tenant_id, p.budget_id, p.window_start, ` + each(", ", "sum(r.U) as U") + `
		from fulcrum.reservation_parts p join fulcrum.reservations r on r.tenant_id = p.tenant_id and r.id = p.reservation_id and p.via = ''
		where not exists (select from fulcrum.settlements s where s.tenant_id = r.tenant_id and s.reservation_id = r.id)
		group by 1, 2, 3) h using (tenant_id, budget_id, window_start)
		where w.cost_nano_held <> coalesce(h.cost_nano, 0) + coalesce(x.cost_nano, 0)
			or w.mode <> 4 and (` + each(" or ", `w.U_held <> coalesce(h.U, 0) + coalesce(x.U, 0)`) + `)`
}

// charged is every settlement with what it costs after its corrections.
const charged = `(select x.tenant_id, x.reservation_id, x.kind, x.total_tokens, x.input_tokens, x.output_tokens, x.llm_calls, x.tool_calls, x.seconds,
	coalesce((select c.new_nano from fulcrum.charge_corrections c where c.tenant_id = x.tenant_id and c.reservation_id = x.reservation_id
		and x.kind = 'settled' order by c.number desc limit 1), x.cost_nano) as cost_nano from fulcrum.settlements x) s`

// spentAgainstSettlements leaves out windows with charges without a hold, which
// have no parts, and those that took over usage from another period or were
// corrected by hand by themselves. A wallet counts money alone.
func spentAgainstSettlements() string {
	return `select w.tenant_id::text, w.budget_id, w.cost_nano_spent, s.cost_nano from fulcrum.budget_windows w left join (
		select p.tenant_id, p.budget_id, p.window_start, ` + each(", ", "sum(s.U) as U") + `
		from fulcrum.reservation_parts p join ` + charged + ` on s.tenant_id = p.tenant_id and s.reservation_id = p.reservation_id
		group by 1, 2, 3) s using (tenant_id, budget_id, window_start)
		where not exists (select from fulcrum.ledger_transactions t join fulcrum.ledger_entries e on e.tenant_id = t.tenant_id and e.transaction_id = t.id
			where (t.kind in ('charge', 'carry') or t.kind = 'correction' and t.reservation_id is null) and e.tenant_id = w.tenant_id and e.budget_id = w.budget_id and e.window_start = w.window_start)
		and (w.cost_nano_spent <> coalesce(s.cost_nano, 0) or w.mode <> 4 and (` + each(" or ", `w.U_spent <> coalesce(s.U, 0)`) + `))`
}

func overspent() string {
	return `select tenant_id::text, budget_id from fulcrum.budget_windows where ` +
		each(" or ", `U_held < 0 or U_spent < 0 or U_over < 0 or ((U_limit > 0 or mode = 4 and 'U' = 'cost_nano') and U_over <> greatest(U_spent + U_held - U_limit, 0))`)
}

// overageUnexplained: in a hard budget only a charge beyond its hold, a charge
// without or after one, a correction or a change of limits may go over.
func overageUnexplained() string {
	return `select distinct e.tenant_id::text, e.budget_id, t.kind from fulcrum.ledger_entries e
		join fulcrum.ledger_transactions t on t.tenant_id = e.tenant_id and t.id = e.transaction_id
		join fulcrum.budget_windows w on w.tenant_id = e.tenant_id and w.budget_id = e.budget_id and w.window_start = e.window_start
		where w.mode in (1, 4) and e.from_account = 'overage' and t.kind not in ('settle', 'charge', 'limits', 'carry', 'correction')`
}

func rollupsAgainstSettlements(table string) string {
	return `select a.tenant_id::text, a.cost_nano, b.cost_nano from
		(select tenant_id, ` + each(", ", "sum(U) as U") + `, sum(charges) as n from fulcrum.` + table + ` group by 1) a
		full join (select tenant_id, ` + each(", ", "sum(U) as U") + `, count(*) as n from ` + charged + ` where kind = 'settled' group by 1) b using (tenant_id)
		where a.n is distinct from b.n or ` + each(" or ", "a.U is distinct from b.U")
}

// hoursAgainstWindows: what is spent in a window, but for what was taken over or
// corrected in it alone, is the sum of its hours. Limits of an envelope have none.
const hoursAgainstWindows = `
	select w.tenant_id::text, w.budget_id, w.window_start::text, w.cost_nano_spent, e.alone, h.cost_nano from fulcrum.budget_windows w
	left join (select tenant_id, budget_id, window_start, sum(cost_nano) as cost_nano from fulcrum.budget_hours group by 1, 2, 3) h using (tenant_id, budget_id, window_start)
	left join (select e.tenant_id, e.budget_id, e.window_start, sum(case e.to_account when 'spent' then e.cost_nano else -e.cost_nano end) as alone
		from fulcrum.ledger_entries e join fulcrum.ledger_transactions t on t.tenant_id = e.tenant_id and t.id = e.transaction_id
		where 'spent' in (e.from_account, e.to_account) and (t.kind = 'carry' or t.kind = 'correction' and t.reservation_id is null)
		group by 1, 2, 3) e using (tenant_id, budget_id, window_start)
	where w.budget_id not like 'envelope:%' and w.cost_nano_spent <> coalesce(h.cost_nano, 0) + coalesce(e.alone, 0)`

// envelopesAgainstSettlements adds up the charges of each envelope and model.
const envelopesAgainstSettlements = `
	select c.tenant_id::text, c.envelope_id, c.model, c.cost_nano, s.cost_nano from
	(select tenant_id, envelope_id, model, cost_nano, charges from fulcrum.envelope_costs) c
	full join (select s.tenant_id, r.envelope_id, x.model, sum(s.cost_nano) as cost_nano, count(*) as charges from ` + charged + `
		join fulcrum.settlements x on x.tenant_id = s.tenant_id and x.reservation_id = s.reservation_id and x.kind = s.kind
		join fulcrum.reservations r on r.tenant_id = s.tenant_id and r.id = s.reservation_id
		where s.kind = 'settled' and r.envelope_id <> '' group by 1, 2, 3) s using (tenant_id, envelope_id, model)
	where c.cost_nano is distinct from s.cost_nano or c.charges is distinct from s.charges`

// creditAgainstMovements adds up a wallet's credit from both records of it.
const creditAgainstMovements = `
	select w.tenant_id::text, w.budget_id, w.cost_nano_limit, m.put, e.put from fulcrum.budget_windows w
	left join (select tenant_id, budget_id, sum(cost_nano) as put from fulcrum.ledger_movements where kind <> 'correction' group by 1, 2) m using (tenant_id, budget_id)
	left join (select tenant_id, budget_id, sum(case when from_account = 'external' then cost_nano else -cost_nano end) as put
		from fulcrum.ledger_entries where 'external' in (from_account, to_account) group by 1, 2) e using (tenant_id, budget_id)
	where w.mode = 4 and (w.cost_nano_limit <> coalesce(m.put, 0) or w.cost_nano_limit <> coalesce(e.put, 0))`

const orphans = `
	select r.tenant_id::text, r.id::text from fulcrum.reservations r
	where not exists (select from fulcrum.reservation_parts p where p.tenant_id = r.tenant_id and p.reservation_id = r.id)
	and not exists (select from fulcrum.ledger_transactions t where t.tenant_id = r.tenant_id and t.reservation_id = r.id and t.kind = 'charge')
	union all
	select p.tenant_id::text, p.reservation_id::text from fulcrum.reservation_parts p
	where not exists (select from fulcrum.reservations r where r.tenant_id = p.tenant_id and r.id = p.reservation_id)
	union all
	select t.tenant_id::text, t.id::text from fulcrum.ledger_transactions t
	where t.kind = 'hold' and not exists (select from fulcrum.reservations r where r.tenant_id = t.tenant_id and r.id = t.reservation_id)
	and not exists (select from fulcrum.envelope_slices s where s.tenant_id = t.tenant_id and s.envelope_id = t.reservation_id)`
