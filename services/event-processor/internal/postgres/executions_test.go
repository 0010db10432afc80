package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/executions"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// Executions are counted once, when they open and when they end, and by the
// days of any zone: those of Kathmandu begin at a quarter past an hour of UTC.
func TestExecutionsAreCountedByTheirEnds(t *testing.T) {
	t.Parallel()
	s, d := open(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	zone, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	y, m, day := time.Now().In(zone).Date()
	midnight := time.Date(y, m, day, 0, 0, 0, 0, zone).AddDate(0, 0, -1)
	var facts []journal.Fact
	add := func(at time.Time, team string, stage journal.Stage) {
		f := newFact(tenant, "envelope_status_changed", team+at.String())
		f.OccurredAt, f.Team, f.WorkflowID, f.APIKeyID, f.AgentID, f.Stage = at, team, "w", "key", "a", stage
		facts = append(facts, f)
	}
	add(midnight.Add(-time.Second), "red", journal.Stage{Opened: true})
	add(midnight.Add(time.Second), "red", journal.Stage{Ended: journal.Completed})
	add(midnight.Add(time.Minute), "blue", journal.Stage{Opened: true, Ended: journal.Terminated})
	add(midnight.Add(2*time.Minute), "blue", journal.Stage{Opened: true})
	add(midnight.Add(3*time.Minute), "blue", journal.Stage{Ended: journal.Failed})
	add(midnight.Add(4*time.Minute), "blue", journal.Stage{})
	record(t, s, facts...)
	record(t, s, facts...) // delivered again

	ask := executions.Query{From: midnight.Add(-time.Hour), Until: midnight.Add(time.Hour), Zone: zone}
	check := func(by string, want ...executions.Count) {
		t.Helper()
		q := ask
		q.GroupBy = by
		got, err := s.Executions(t.Context(), tenant, q)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("by %q: %v, %v, want %v", by, got, err, want)
		}
	}
	check("", executions.Count{Opened: 3, Completed: 1, Failed: 1, Terminated: 1})
	check("team", executions.Count{Group: "blue", Opened: 2, Failed: 1, Terminated: 1}, executions.Count{Group: "red", Opened: 1, Completed: 1})
	check("key", executions.Count{Group: "key", Opened: 3, Completed: 1, Failed: 1, Terminated: 1})
	check("day", executions.Count{Group: midnight.Add(-time.Hour).Format(time.DateOnly), Opened: 1},
		executions.Count{Group: midnight.Format(time.DateOnly), Opened: 2, Completed: 1, Failed: 1, Terminated: 1})
	ask.Workflow = "another"
	check("")
	ask.Workflow = ""
	if got, err := s.Executions(t.Context(), other, ask); err != nil || len(got) != 0 {
		t.Errorf("another tenant's: %v, %v", got, err)
	}
}
