package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/books"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// What makes the journal another one than its reservations and settlements say.
var journalFaults = map[string]string{
	"a hold without one transaction of its own": `select count(*) from fulcrum.reservations r where 1 <> (select count(*) from fulcrum.ledger_transactions t
		where t.tenant_id = r.tenant_id and t.reservation_id = r.id and t.kind = 'hold')`,
	"a window of a hold without its one line": `select count(*) from fulcrum.reservations r cross join unnest(r.budget_ids, r.window_starts) w(budget, start) where 1 <> (
		select count(*) from fulcrum.ledger_entries e join fulcrum.ledger_transactions t on t.tenant_id = e.tenant_id and t.id = e.transaction_id
		where t.tenant_id = r.tenant_id and t.reservation_id = r.id and t.kind = 'hold' and e.budget_id = w.budget and e.window_start = w.start and e.occurred_at = r.created_at
			and e.from_account = 'available' and e.to_account = 'held' and (e.cost_nano, e.tool_calls, e.seconds, e.total_tokens) = (r.cost_nano, r.tool_calls, r.seconds, r.total_tokens))`,
	"an end without one transaction of its own": `select count(*) from fulcrum.settlements s where 1 <> (select count(*) from fulcrum.ledger_transactions t
		where t.tenant_id = s.tenant_id and t.reservation_id = s.reservation_id and t.kind = case s.kind when 'settled' then 'settle' else 'release' end)`,
	"a hold that ends at another time": `select count(*) from fulcrum.reservations where expires_at <> created_at + make_interval(secs => 60 + tool_calls)`,
	"a line twice":                     `select count(*) - count(distinct (tenant_id, transaction_id, line)) from fulcrum.ledger_entries`,
	"an id twice":                      `select count(*) - count(distinct id) from fulcrum.ledger_transactions`,
	"a line of no transaction":         `select count(*) from fulcrum.ledger_entries e where not exists (select from fulcrum.ledger_transactions t where t.tenant_id = e.tenant_id and t.id = e.transaction_id)`,
	"a transaction of no lines":        `select count(*) from fulcrum.ledger_transactions t where not exists (select from fulcrum.ledger_entries e where t.tenant_id = e.tenant_id and t.id = e.transaction_id)`,
}

// However much of a batch is alike and kept once, the journal has each line.
func TestTheJournalHasEachLineOfABatch(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	in := start(t, d, lane.Options{})
	tenants := []uuid.UUID{dbtest.Tenant(t, d), dbtest.Tenant(t, d)}
	ofTeam := dollars("team", 100)
	ofTeam.Scope = &costv1.BudgetScope{Team: "a"}
	for _, tenant := range tenants {
		publish(t, d, tenant, dollars("all", 100), dollars("too", 100), ofTeam)
	}
	of := func(tenant int, team string, a amount.Amounts) *ledger.Reserve {
		r := hold(tenants[tenant], 0)
		r.Subject.Team, r.Amounts, r.TTL = team, a, time.Minute+time.Duration(a[amount.ToolCalls])*time.Second
		return r.Seal()
	}
	holds := func(n int, one func(i int) *ledger.Reserve) (ops []ledger.Op) {
		for i := range n {
			ops = append(ops, one(i))
		}
		return ops
	}
	releases := func(holds []ledger.Op) (ops []ledger.Op) {
		for _, op := range holds {
			ops = append(ops, &ledger.Release{Ref: op.Of(), Key: "k"})
		}
		return ops
	}
	ends := func(holds []ledger.Op) []ledger.Op {
		ops := append(releases(holds), of(0, "a", nano(1)))
		for n := 0; n < len(holds); n += 2 {
			ops[n] = settle(holds[n].Of(), int64(n))
		}
		return ops
	}
	const rows = `select count(*) from fulcrum.ledger_postings where extract(epoch from occurred_at) * 1e6 > $1 and `
	const posted = `select count(*) from fulcrum.reservations where posted`
	flush := func(name string, fromMemory bool, ops []ledger.Op) {
		t.Helper()
		fast := in.fast[1].Load()
		in.store.Plain = !fromMemory
		results, err := in.store.Flush(t.Context(), ops)
		if err != nil || in.fast[1].Load() > fast != fromMemory {
			t.Fatalf("%s: %v, from memory %v", name, err, !fromMemory)
		}
		for i, r := range results {
			if _, isHold := ops[i].(*ledger.Reserve); r.Err != nil || isHold && !r.Value.Held {
				t.Fatalf("%s: %+v", name, r)
			}
		}
	}
	for _, batch := range []struct {
		name  string
		holds func() []ledger.Op
		ends  func([]ledger.Op) []ledger.Op
		kept  string // what holds of each row that their ends post
	}{
		{"one", func() []ledger.Op { return holds(1, func(int) *ledger.Reserve { return of(0, "a", nano(1)) }) }, releases, `entries = 1`},
		{"alike", func() []ledger.Op { return holds(20, func(int) *ledger.Reserve { return of(0, "a", nano(5)) }) }, releases,
			`entries = 20 and array[cardinality(refs), cardinality(lines), cardinality(moves), cardinality(cost_nano), cardinality(tool_calls)] = '{1,1,1,20,0}'`},
		{"of different amounts", func() []ledger.Op {
			return holds(20, func(i int) *ledger.Reserve {
				return of(0, "a", amount.Amounts{amount.Cost: 5, amount.ToolCalls: int64(i)})
			})
		}, releases, `entries = 20 and cardinality(refs) = 1 and cardinality(tool_calls) = 20`},
		{"of two tenants in turns", func() []ledger.Op { return holds(20, func(i int) *ledger.Reserve { return of(i%2, "a", nano(7)) }) }, releases,
			`entries = 10 and refs = '{1}'`},
		{"on two paths", func() []ledger.Op {
			return holds(20, func(i int) *ledger.Reserve { return of(0, string("ab"[i%2]), nano(7)) })
		}, releases,
			`entries is null and array[cardinality(refs), refs[2]] = case when budget_id = 'team' then array[10, 3] else array[20, 2] end`},
		{"ends of both kinds, and a hold", func() []ledger.Op {
			return holds(14, func(i int) *ledger.Reserve { return of(i/2%2, "a", amount.Amounts{amount.Cost: 9, amount.Seconds: 3}) })
		}, ends, `entries is null and cardinality(refs) >= 4`},
	} {
		for _, fromMemory := range []bool{false, true} {
			last := dbtest.Count(t, d, `select coalesce(max(extract(epoch from occurred_at) * 1e6), 0)::bigint from fulcrum.ledger_postings`)
			ops := batch.holds()
			flush(batch.name, fromMemory, ops)
			if lines, others := dbtest.Count(t, d, rows+"true", last), dbtest.Count(t, d, posted); lines != 0 || others != 0 {
				t.Errorf("%s: holds posted %d rows; %d say that they did", batch.name, lines, others)
			}
			flush(batch.name, fromMemory, batch.ends(ops))
			if kept, other := dbtest.Count(t, d, rows+batch.kept, last), dbtest.Count(t, d, rows+"not ("+batch.kept+")", last); kept == 0 || other > 0 {
				t.Errorf("%s: %d rows are as they should be, %d are not", batch.name, kept, other)
			}
		}
	}
	// A hold beyond a limit that warns alone moves more than it says: it is posted.
	soft := dollars("soft", 0.000000010)
	soft.Mode = costv1.BudgetMode_BUDGET_MODE_SOFT
	publish(t, d, tenants[0], dollars("all", 100), dollars("too", 100), ofTeam, soft)
	for _, fromMemory := range []bool{false, true} {
		flush("beyond a soft limit", fromMemory, holds(3, func(int) *ledger.Reserve { return of(0, "a", nano(20)) }))
	}
	if n := dbtest.Count(t, d, posted); n != 6 {
		t.Errorf("%d holds beyond a soft limit are posted, want 6", n)
	}
	for what, query := range journalFaults {
		if n := dbtest.Count(t, d, query); n != 0 {
			t.Errorf("%s: %d", what, n)
		}
	}
	balanced(t, d)

	for _, tenant := range tenants { // the export, page by page, lists what the view does
		var exported []string
		for c := books.Begin(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), ""); ; {
			page, err := in.store.Entries(t.Context(), tenant, c, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range page {
				exported = append(exported, fmt.Sprint(l.Transaction, l.Line, l.Kind, l.Reservation, l.Window.Budget, l.From, l.To, l.Amounts[amount.Cost], l.Amounts[amount.ToolCalls], l.Amounts[amount.Seconds]))
				c = c.After(l)
			}
			if len(page) == 0 {
				break
			}
		}
		var listed []string
		err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			rows, err := tx.Query(ctx, `select format('%s %s %s %s %s %s %s %s %s %s', e.transaction_id, e.line, k.kind, k.reservation_id, e.budget_id, e.from_account, e.to_account, e.cost_nano, e.tool_calls, e.seconds)
				from fulcrum.ledger_entries e join fulcrum.ledger_transactions k on k.tenant_id = e.tenant_id and k.id = e.transaction_id where e.tenant_id = $1`, tenant)
			if err != nil {
				return err
			}
			listed, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		squeeze := func(list []string) []string {
			for i := range list {
				list[i] = strings.ReplaceAll(list[i], " ", "")
			}
			return slices.Sorted(slices.Values(list))
		}
		if got, want := squeeze(exported), squeeze(listed); len(want) < 100 || !slices.Equal(got, want) {
			t.Errorf("exported %d lines of %d, or others", len(got), len(want))
		}
	}
}
