package postgres_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// The hours of a window add up to what is spent in it, by whatever way it was
// charged; and every call whose usage was told is in the distribution once.
func TestTheRollupsAddUpToTheWindows(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	in := start(t, d, lane.Options{})
	publish(t, d, tenant, dollars("one", 1000), dollars("two", 1000))
	for i := range 30 {
		r := hold(tenant, 100)
		r.Subject = catalog.Subject{WorkflowID: []string{"w", "v"}[i%2], Model: "gpt-4o"}
		must(t, in, r.Seal())
		s := settle(r.Ref, []int64{50, 100, 170}[i%3])
		s.Usage.Input, s.Usage.Output = 100, int64(i)
		switch {
		case i%5 == 4: // after it was given back
			must(t, in, &ledger.Release{Ref: r.Ref, Key: "r"})
		case i%7 == 6:
			s.Usage = nil // as held
		}
		must(t, in, s.Seal())
		must(t, in, s.Seal()) // once more
	}
	for i := range 6 { // without a hold
		s := settle(ledger.Ref{Tenant: tenant, ID: uuid.Must(uuid.NewV7())}, 9)
		s.Subject = &catalog.Subject{Model: "gpt-4o", WorkflowID: "w"}
		s.Usage.Input, s.Usage.Output, s.Failed = 10, 10, i%2 == 1
		must(t, in, s.Seal())
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.budget_windows w where w.cost_nano_spent = 0 or w.cost_nano_spent <>
		(select coalesce(sum(h.cost_nano), 0) from fulcrum.budget_hours h where h.tenant_id = w.tenant_id and h.budget_id = w.budget_id and h.window_start = w.window_start)`); n != 0 {
		t.Errorf("%d windows are not the sum of their hours", n)
	}
	told := dbtest.Count(t, d, `select count(*) from fulcrum.settlements where kind = 'settled' and llm_calls > 0 and price_version <> 'as-held' and not failed`)
	if n := dbtest.Count(t, d, `select sum(calls) from fulcrum.call_sizes`); n != told || n == 0 {
		t.Errorf("%d calls in the distribution, %d were told", n, told)
	}
	balanced(t, d)
}
