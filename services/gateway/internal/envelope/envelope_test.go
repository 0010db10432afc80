package envelope_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// The table that the database enforces and the one that explains it are equal.
func TestTheMovesAreTheDatabasesMoves(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	for _, from := range envelope.All() {
		for _, to := range envelope.All() {
			var may, final bool
			err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
				return tx.QueryRow(ctx, `select fulcrum.envelope_may_move($1, $2), fulcrum.envelope_is_final($1)`, string(from), string(to)).Scan(&may, &final)
			})
			if err != nil {
				t.Fatal(err)
			}
			if may != from.MayMove(to) || final != from.Final() {
				t.Errorf("%s to %s: %v, database %v; final: %v, database %v", from, to, from.MayMove(to), may, from.Final(), final)
			}
		}
	}
}

func TestStatusesSurviveTheWire(t *testing.T) {
	t.Parallel()
	for number := range envelopev1.EnvelopeStatus_name {
		p := envelopev1.EnvelopeStatus(number)
		if s := envelope.FromProto(p); s.Proto() != p {
			t.Errorf("%v became %q and %v", p, s, s.Proto())
		}
	}
	if s := envelope.FromProto(99); s != "" {
		t.Errorf("99 became %q", s)
	}
}

func parent() *envelope.Envelope {
	return &envelope.Envelope{
		ID: uuid.New(), Root: uuid.New(), Ancestors: []uuid.UUID{uuid.New()}, Status: envelope.Running, BudgetID: "b", AgentID: "a",
		Governance: &envelopev1.GovernanceContext{AllowedTools: []string{"x", "y"}},
		Limits:     []*budgetv1.EnvelopeLimits{{EnvelopeId: "p", MaxTokens: 5}},
		ExpiresAt:  time.Now().Add(time.Minute),
	}
}

// A child has no more than its parent: not more tools, time or money.
func TestAChildHasNoMoreThanItsParent(t *testing.T) {
	t.Parallel()
	p := parent()
	child := &envelope.Envelope{ID: uuid.New(), ExpiresAt: p.ExpiresAt.Add(time.Hour), Governance: &envelopev1.GovernanceContext{CostLimitUsd: 1}}
	if err := child.Under(p, "governance"); err != nil {
		t.Fatal(err)
	}
	if err := child.Limit("governance"); err != nil {
		t.Fatal(err)
	}
	if !child.ExpiresAt.Equal(p.ExpiresAt) || child.BudgetID != "b" || child.Root != p.Root || len(child.Ancestors) != 2 || child.Ancestors[0] != p.ID {
		t.Errorf("child: %+v", child)
	}
	if len(child.Limits) != 2 || child.Limits[0].GetMaxCostNano() != 1e9 || child.Limits[1].GetMaxTokens() != 5 {
		t.Errorf("limits: %v", child.Limits)
	}
	for name, test := range map[string]struct {
		own  []string
		want int
		err  bool
	}{
		"inherits":     {nil, 2, false},
		"narrows":      {[]string{"x", "z"}, 1, false},
		"would be all": {[]string{"z"}, 0, true},
	} {
		c := &envelope.Envelope{ID: uuid.New(), Governance: &envelopev1.GovernanceContext{AllowedTools: test.own}}
		err := c.Under(p, "governance")
		if fault.Is(err, fault.Invalid) != test.err || !test.err && len(c.Governance.GetAllowedTools()) != test.want {
			t.Errorf("%s: %v, %v", name, c.Governance.GetAllowedTools(), err)
		}
	}
}

func TestWhoMayHaveNoChildren(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*envelope.Envelope){
		"ended":   func(e *envelope.Envelope) { e.Status = envelope.Completed },
		"paused":  func(e *envelope.Envelope) { e.Status = envelope.Paused },
		"overdue": func(e *envelope.Envelope) { e.Overdue = true },
		"deep":    func(e *envelope.Envelope) { e.Ancestors = make([]uuid.UUID, envelope.MaxDepth) },
		"full":    func(e *envelope.Envelope) { e.RootDescendants = envelope.MaxDescendants },
	} {
		p := parent()
		change(p)
		child := &envelope.Envelope{ID: uuid.New(), Governance: &envelopev1.GovernanceContext{}}
		if err := child.Under(p, "governance"); !fault.Is(err, fault.Precondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
