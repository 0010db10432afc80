package postgres

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

func open(t *testing.T) (*Store, *dbtest.Database) {
	t.Helper()
	d := dbtest.New(t)
	return New(d.DB, "event-processor"), d
}

func newFact(tenant uuid.UUID, kind, execution string) journal.Fact {
	return journal.Fact{
		Tenant: tenant, ID: uuid.Must(uuid.NewV7()), Type: kind, System: true, Writer: "gateway", OccurredAt: time.Now().UTC(),
		ExecutionID: execution, Payload: `{"a": 1}`, Labels: `{"env": "test"}`, Size: 100,
	}
}

func charge(tenant uuid.UUID, agent string, nano, input, output int64) journal.Fact {
	f := newFact(tenant, "cost_recorded", "")
	f.AgentID = agent
	f.Cost = &journal.Cost{Model: "m", Nano: nano, Input: input, Output: output}
	return f
}

func decision(tenant uuid.UUID, agent, verdict string, took time.Duration) journal.Fact {
	f := newFact(tenant, "decision_made", "")
	f.AgentID, f.Decision = agent, verdict
	f.Latency = &journal.Latency{Total: took}
	return f
}

func record(t *testing.T, s *Store, facts ...journal.Fact) journal.Receipt {
	t.Helper()
	r, err := s.Record(t.Context(), facts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func want(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}

// as opens the database under another login.
func as(t *testing.T, d *dbtest.Database, role string) *db.DB {
	t.Helper()
	u, err := url.Parse(d.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	u.User = url.UserPassword(role, password)
	other, err := db.Open(t.Context(), u.String(), db.Options{SkipGate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return other
}
