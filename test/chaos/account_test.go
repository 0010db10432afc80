package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// soon is how long an event may be on its way to the event store and the audit
// log after a loss: a gap is noticed when it is a minute old.
const soon = 2 * time.Minute

// account holds what the callers know against what is on record. Nothing may
// be running.
func (c *crowd) account(t *testing.T, db *running.Database) {
	t.Helper()
	c.decisions(t, db)
	c.charges(t, db)
	c.budgets(t, db)
	c.events(t, db)
}

// No decision without a record: what was answered stands in the database as it
// was answered, and every key has one decision.
func (c *crowd) decisions(t *testing.T, db *running.Database) {
	t.Helper()
	rows, err := db.Texts(t.Context(), "select id || ' ' || decision from fulcrum.decisions where tenant_id = $1 and method = 'authorize'", c.tenant.ID)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]bool{}
	for _, row := range rows {
		recorded[row] = true
	}
	answered := map[string]string{} // by decision, the key
	for _, a := range c.actions {
		if a.answer == nil {
			continue
		}
		row := a.answer.GetDecisionId() + " " + a.answer.GetDecision().String()[len("DECISION_"):]
		if !recorded[row] {
			t.Errorf("a caller was answered %s, and there is no such record", row)
		}
		if other, twice := answered[a.answer.GetDecisionId()]; twice {
			t.Errorf("decision %s answers the keys %s and %s", a.answer.GetDecisionId(), other, a.ask.GetIdempotencyKey())
		}
		answered[a.answer.GetDecisionId()] = a.ask.GetIdempotencyKey()
	}
	// Those of the test's own preparations are dry runs, which are not recorded.
	if len(rows) != len(answered) {
		t.Errorf("%d decisions are on record, but %d calls were answered", len(rows), len(answered))
	}
}

// Every settlement that was answered is charged exactly once, and nothing else
// is.
func (c *crowd) charges(t *testing.T, db *running.Database) {
	t.Helper()
	var settled int64
	for _, a := range c.actions {
		if a.settled != nil {
			settled++
			if got := a.settled.GetCharged().GetCostNano(); got != usedNano {
				t.Errorf("an action was charged %d nano, want %d", got, usedNano)
			}
		}
	}
	for what, q := range map[string]struct {
		sql  string
		want int64
	}{
		"settlements":             {"select count(*) from fulcrum.settlements where tenant_id = $1 and kind = 'settled'", settled},
		"late settlements":        {"select count(*) from fulcrum.settlements where tenant_id = $1 and late", 0},
		"nano-USD in settlements": {"select coalesce(sum(cost_nano), 0) from fulcrum.settlements where tenant_id = $1", settled * usedNano},
		"nano-USD in the budget over all": {"select coalesce(sum(cost_nano_spent), 0) from fulcrum.budget_windows where tenant_id = $1 and budget_id = '" +
			c.budget.GetBudgetId() + "'", settled * usedNano},
		"nano-USD in the summaries": {"select coalesce(sum(cost_nano), 0)::bigint from fulcrum.spend_rollups where tenant_id = $1", settled * usedNano},
		"settlements without a decision": {`select count(*) from fulcrum.settlements s where s.tenant_id = $1 and s.kind = 'settled' and not exists (
			select from fulcrum.decisions d where d.tenant_id = s.tenant_id and d.reservation_id = s.reservation_id)`, 0},
	} {
		if got := db.Count(t, q.sql, c.tenant.ID); got != q.want {
			t.Errorf("%s: %d, want %d", what, got, q.want)
		}
	}
}

// No budget is overspent, what its windows say is the sum of their entries, and
// what is held is held for somebody.
func (c *crowd) budgets(t *testing.T, db *running.Database) {
	t.Helper()
	if n := db.Count(t, overspent, c.tenant.ID); n != 0 {
		t.Errorf("%d windows are beyond their limit", n)
	}
	if n := db.Count(t, unbalanced, c.tenant.ID); n != 0 {
		t.Errorf("%d windows are not the sum of their entries", n)
	}
	if n := db.Count(t, "select count(*) from fulcrum.reservations r where r.tenant_id = $1 and "+open+` and not exists (
		select from fulcrum.decisions d where d.tenant_id = r.tenant_id and d.reservation_id = r.id)`, c.tenant.ID); n != 0 {
		t.Errorf("%d holds belong to no decision", n)
	}
	// A call that died after its hold may be answered with a denial when it is
	// repeated: what it held the first time runs out by itself.
	if n := db.Count(t, "select count(*) from fulcrum.reservations r where r.tenant_id = $1 and "+abandoned+" and expires_at > now() + interval '10 minutes'", c.tenant.ID); n != 0 {
		t.Errorf("%d holds that nobody was told of do not run out", n)
	}
	told, asked := map[string]int64{}, map[string]int64{}
	for _, a := range c.actions {
		workflow := a.ask.GetInline().GetWorkflowId()
		asked[workflow]++
		if a.answer.GetHold() != nil && a.settled == nil {
			told[workflow]++
		}
	}
	for _, b := range c.tight {
		workflow := b.GetScope().GetWorkflowId()
		held := db.Count(t, "select coalesce(sum(tool_calls_held), 0)::bigint from fulcrum.budget_windows where tenant_id = $1 and budget_id = $2", c.tenant.ID, b.GetBudgetId())
		untold := db.Count(t, "select count(*) from fulcrum.reservations r where r.tenant_id = $1 and r.workflow_id = $2 and "+abandoned, c.tenant.ID, workflow)
		if held != told[workflow]+untold || held > tightRoom || asked[workflow] >= tightRoom && held != tightRoom {
			t.Errorf("budget %q: %d asked, %d were let through, %d hold without having been told and %d are held; there is room for %d",
				b.GetName(), asked[workflow], told[workflow], untold, held, tightRoom)
		}
	}
}

// open is a hold that has not ended; abandoned is one whose decision is a denial.
const (
	open = `not exists (select from fulcrum.settlements s where s.tenant_id = r.tenant_id and s.reservation_id = r.id)`

	abandoned = open + ` and exists (select from fulcrum.decisions d
		where d.tenant_id = r.tenant_id and d.reservation_id = r.id and not d.held)`
)

const overspent = `select count(*) from fulcrum.budget_windows where tenant_id = $1 and (
	cost_nano_limit > 0 and cost_nano_spent + cost_nano_held > cost_nano_limit or
	tool_calls_limit > 0 and tool_calls_spent + tool_calls_held > tool_calls_limit)`

const unbalanced = `select count(*) from fulcrum.budget_windows w left join (
		select tenant_id, budget_id, window_start,
			sum(case 'held' when to_account then cost_nano when from_account then -cost_nano else 0 end) cost_held,
			sum(case 'spent' when to_account then cost_nano when from_account then -cost_nano else 0 end) cost_spent,
			sum(case 'held' when to_account then tool_calls when from_account then -tool_calls else 0 end) tools_held,
			sum(case 'spent' when to_account then tool_calls when from_account then -tool_calls else 0 end) tools_spent
		from fulcrum.ledger_entries group by 1, 2, 3
	) e using (tenant_id, budget_id, window_start)
	where w.tenant_id = $1 and (
		w.cost_nano_held <> coalesce(e.cost_held, 0) or w.cost_nano_spent <> coalesce(e.cost_spent, 0) or
		w.tool_calls_held <> coalesce(e.tools_held, 0) or w.tool_calls_spent <> coalesce(e.tools_spent, 0))`

// Every decision becomes an event in the store and a leaf of the audit log,
// once each.
func (c *crowd) events(t *testing.T, db *running.Database) {
	t.Helper()
	for _, table := range []string{"events", "audit_leaves"} {
		running.Eventually(t, soon, func(ctx context.Context) error {
			n, err := db.TryCount(ctx, `select count(*) from fulcrum.decisions d where d.tenant_id = $1 and not exists (
				select from fulcrum.`+table+` e where e.tenant_id = d.tenant_id and e.event_id = d.id)`, c.tenant.ID)
			if err == nil && n > 0 {
				err = fmt.Errorf("%d decisions have nothing in %s", n, table)
			}
			return err
		})
		if n := db.Count(t, "select count(*) - count(distinct event_id) from fulcrum."+table+" where tenant_id = $1", c.tenant.ID); n != 0 {
			t.Errorf("%d events are in %s more than once", n, table)
		}
	}
	if n := db.Count(t, "select count(*) from fulcrum.dead_letters where tenant_id = $1", c.tenant.ID); n != 0 {
		t.Errorf("%d events were given up", n)
	}
}

// watchLimits looks again and again, until the end, whether a budget is beyond
// its limit. The database may come and go meanwhile.
func (c *crowd) watchLimits(t *testing.T, db *running.Database) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if n, err := db.TryCount(ctx, overspent, c.tenant.ID); err == nil && n != 0 {
				t.Errorf("under load, %d windows are beyond their limit", n)
				return
			}
			rest(ctx)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
