package postgres

import (
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// The app makes room but cannot forget; the role that can, drops what is old
// and takes its counts out of the totals.
func TestHistoryIsForgottenByWhoMay(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant := dbtest.Tenant(t, d)
	for range 2 { // again is harmless
		if err := s.Extend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if may, err := s.MayForget(t.Context()); err != nil || may {
		t.Errorf("the app may forget: %t, %v", may, err)
	}
	if _, err := s.Forget(t.Context(), time.Now()); err == nil {
		t.Error("the app dropped history")
	}

	record(t, s, newFact(tenant, "x", ""))
	dbtest.Admin(t, d,
		`select fulcrum.ensure_partitions('fulcrum.events', 6, 0), metrics.ensure_days('metrics.metrics', 31, 0)`,
		`insert into fulcrum.events select tenant_id, 0 + 1000000, stored_at - interval '5 months', gen_random_uuid(), execution_key, 2, type, origin, writer,
			occurred_at, execution_id, envelope_id, workflow_id, actor, action, resource, decision, policy_version, agent_id, team, api_key_id, user_id,
			payload, labels, trace_id, span_id, model, cost_nano, input_tokens, output_tokens, latency_us, size_bytes from fulcrum.events`,
		`insert into fulcrum.event_totals select tenant_id, month - interval '5 months', type, 5, 5, oldest, newest from fulcrum.event_totals`)
	old := New(as(t, d, "fulcrum_retention"), "event-processor")
	if may, err := old.MayForget(t.Context()); err != nil || !may {
		t.Fatalf("fulcrum_retention may forget: %t, %v", may, err)
	}
	dropped, err := old.Forget(t.Context(), time.Now().Add(-90*24*time.Hour))
	if err != nil || dropped < 2 {
		t.Errorf("dropped %d partitions, %v", dropped, err)
	}
	want(t, "events", dbtest.Count(t, d, `select count(*) from fulcrum.events`), 1)
	totals, err := s.Totals(t.Context(), tenant)
	if err != nil || totals.Events != 1 {
		t.Errorf("totals %+v, %v", totals, err)
	}
	dropped, err = old.Forget(t.Context(), time.Now().Add(-24*time.Hour))
	if err != nil || dropped < 30 {
		t.Errorf("dropped %d days of metrics, %v", dropped, err)
	}
	record(t, s, charge(tenant, "a", 1, 1, 1)) // and life goes on
}
