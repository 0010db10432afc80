package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// model is the ledger as one would write it without a database: three budgets,
// a tenant's and two agents', each with limits of money and of tokens, and the
// holds by hand.
type model struct {
	limit     map[string]pair
	soft      map[string]bool
	suspended map[string]bool
	holds     []*modelHold
	spent     map[string]pair
}

// pair is money and tokens.
type pair [2]int64

func (p pair) plus(q pair) pair { return pair{p[0] + q[0], p[1] + q[1]} }

func (p pair) amounts() amount.Amounts {
	return amount.Amounts{amount.Cost: p[0], amount.InputTokens: p[1], amount.TotalTokens: p[1]}
}

// above is what of p exceeds q.
func (p pair) above(q pair) pair { return pair{max(p[0]-q[0], 0), max(p[1]-q[1], 0)} }

type modelHold struct {
	op      *ledger.Reserve
	budgets []string
	n       pair
	state   string // held, settled, released, expired
	charged pair
	late    bool
	settled bool
	asHeld  bool // charged without saying what was used
}

func (m *model) held(budget string) (sum pair) {
	for _, h := range m.holds {
		if h.state == "held" && slices.Contains(h.budgets, budget) {
			sum = sum.plus(h.n)
		}
	}
	return sum
}

func (m *model) admits(budgets []string, n pair) bool {
	for _, b := range budgets {
		if m.suspended[b] {
			return false
		}
		after := m.spent[b].plus(m.held(b)).plus(n)
		for unit, limit := range m.limit[b] {
			if n[unit] > 0 && limit > 0 && after[unit] > limit && !m.soft[b] {
				return false
			}
		}
	}
	return true
}

func (m *model) charge(budgets []string, n pair) {
	for _, b := range budgets {
		m.spent[b] = m.spent[b].plus(n)
	}
}

// scope is an agent, or nobody in particular, and the budgets it draws on.
func scope(t *rapid.T) (agent string, budgets []string) {
	agent = rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "agent")
	if agent == "" {
		return agent, []string{"all"}
	}
	return agent, []string{"all", agent}
}

func drawPair(t *rapid.T, least, most int64) pair {
	return pair{rapid.Int64Range(least, most).Draw(t, "money"), rapid.Int64Range(0, most).Draw(t, "tokens")}
}

func charging(ref ledger.Ref, n pair) *ledger.Settle {
	return (&ledger.Settle{
		Ref: ref, Key: "settle-" + ref.ID.String(), Usage: &ledger.Usage{Cost: moneyNano(n[0]), CostKnown: true, Input: n[1]},
	}).Seal()
}

// Whatever happens to holds and budgets in whatever order, the ledger stands
// where the model stands, after every single step.
func TestTheLedgerIsTheModel(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	one, two := start(t, d, lane.Options{}), start(t, d, lane.Options{})
	rapid.Check(t, func(t *rapid.T) {
		machine(t, d, dbtestTenant(d), []*instance{one, two})
	})
	balance.CheckSums(t, d.AdminURL)
}

func machine(t *rapid.T, d *dbtest.Database, tenant uuid.UUID, at []*instance) {
	m := &model{
		limit: map[string]pair{"all": {100, 80}, "a": {60, 0}, "b": {60, 50}},
		soft:  map[string]bool{}, suspended: map[string]bool{}, spent: map[string]pair{},
	}
	configure := func() {
		var budgets []*costv1.Budget
		for _, id := range []string{"all", "a", "b"} {
			b := dollars(id, float64(m.limit[id][0])/1e9)
			b.Limits.MaxTokens = m.limit[id][1]
			b.Suspended = m.suspended[id]
			if m.soft[id] {
				b.Mode = costv1.BudgetMode_BUDGET_MODE_SOFT
			}
			if id != "all" {
				b.Scope = &costv1.BudgetScope{AgentId: id}
			}
			budgets = append(budgets, b)
		}
		publishNow(d, tenant, budgets...)
	}
	configure()
	do := func(op ledger.Op) (ledger.Answer, error) {
		return at[rapid.IntRange(0, len(at)-1).Draw(t, "instance")].Do(t.Context(), op)
	}
	pick := func() *modelHold {
		if len(m.holds) == 0 {
			t.Skip("nothing held yet")
		}
		return rapid.SampledFrom(m.holds).Draw(t, "hold")
	}
	t.Repeat(map[string]func(*rapid.T){
		"reserve": func(t *rapid.T) {
			agent, budgets := scope(t)
			n := drawPair(t, 1, 40)
			op := hold(tenant, 0)
			op.Subject.AgentID, op.Amounts = agent, n.amounts()
			op.Seal()
			want := m.admits(budgets, n)
			a, err := do(op)
			if err != nil || a.Granted != want || a.Held != want {
				t.Fatalf("Reserve %v: %+v, %v; want granted %v", n, a, err, want)
			}
			if want {
				m.holds = append(m.holds, &modelHold{op: op, budgets: budgets, n: n, state: "held"})
			}
		},
		"reserve again": func(t *rapid.T) {
			h := pick()
			again := *h.op
			a, err := do(&again)
			if gone := h.state == "released" || h.state == "expired"; gone != fault.Is(err, fault.Precondition) || !gone && (err != nil || !a.Granted) {
				t.Fatalf("Reserve again of one %s: %+v, %v", h.state, a, err)
			}
			again.Amounts = h.n.plus(pair{1, 0}).amounts()
			if _, err := do(again.Seal()); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
				t.Fatalf("Reserve again with another amount: %v", err)
			}
		},
		"settle": func(t *rapid.T) {
			h := pick()
			n := drawPair(t, 0, 60) // may be more than was held
			op := charging(h.op.Ref, n)
			if rapid.IntRange(0, 4).Draw(t, "as held") == 0 {
				n, op.Usage = h.n, nil
				op.Seal()
			}
			settleHold(t, m, h, op, n, do)
		},
		"settle again": func(t *rapid.T) {
			h := pick()
			settleHold(t, m, h, charging(h.op.Ref, h.charged), h.charged, do)
		},
		"charge without a hold": func(t *rapid.T) {
			agent, budgets := scope(t)
			n := drawPair(t, 0, 30)
			op := charging(ledger.Ref{Tenant: tenant, ID: uuid.Must(uuid.NewV7())}, n)
			op.Subject = &catalog.Subject{AgentID: agent}
			again := *op
			for _, op := range []*ledger.Settle{op, &again} { // what happened is charged, limit or not, and once
				if a, err := do(op); err != nil || a.Amounts != n.amounts() || a.Late {
					t.Fatalf("charge %v: %+v, %v", n, a, err)
				}
			}
			m.charge(budgets, n)
			if _, err := do((&ledger.Reserve{Ref: op.Ref, TTL: time.Minute, Amounts: nano(1)}).Seal()); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
				t.Fatalf("Reserve under the id of a charge: %v", err)
			}
		},
		"release": func(t *rapid.T) {
			h := pick()
			a, err := do(&ledger.Release{Ref: h.op.Ref, Key: "r"})
			switch {
			case h.settled:
				if !fault.HasReason(err, "RESERVATION_SETTLED") {
					t.Fatalf("Release after a charge: %v", err)
				}
			case h.state == "expired":
				if err != nil || !a.Amounts.IsZero() {
					t.Fatalf("Release after expiry: %+v, %v", a, err)
				}
			default:
				if err != nil || a.Amounts != h.n.amounts() {
					t.Fatalf("Release of one %s: %+v, %v", h.state, a, err)
				}
				h.state = "released"
			}
		},
		"renew": func(t *rapid.T) {
			h := pick()
			_, err := do(&ledger.Renew{Ref: h.op.Ref, Key: uuid.NewString(), TTL: time.Minute})
			if (h.state == "held") != (err == nil) {
				t.Fatalf("Renew of one %s: %v", h.state, err)
			}
		},
		"expire": func(t *rapid.T) {
			h := pick()
			early := rapid.Bool().Draw(t, "early")
			if !early {
				mustAdmin(d, fmt.Sprintf(`update fulcrum.reservations set created_at = now() - interval '2 s', expires_at = now() - interval '1 s' where id = '%s'`, h.op.ID))
			}
			a, err := do(&ledger.Expire{Ref: h.op.Ref})
			if err != nil || a.Amounts.IsZero() != (early || h.state != "held") {
				t.Fatalf("Expire of one %s (early %v): %+v, %v", h.state, early, a, err)
			}
			if !early && h.state == "held" {
				h.state = "expired"
			}
		},
		"change a budget": func(t *rapid.T) {
			id := rapid.SampledFrom([]string{"all", "a", "b"}).Draw(t, "budget")
			m.limit[id] = drawPair(t, 0, 150)
			m.suspended[id] = rapid.IntRange(0, 4).Draw(t, "suspend") == 0
			m.soft[id] = rapid.IntRange(0, 2).Draw(t, "soft") == 0
			configure()
		},
		"": func(t *rapid.T) {
			for _, id := range []string{"all", "a", "b"} {
				spent, held := pairs(t, d, tenant, id)
				if spent != m.spent[id] || held != m.held(id) {
					t.Fatalf("budget %s: spent %d held %d, the model says %d and %d", id, spent, held, m.spent[id], m.held(id))
				}
			}
		},
	})
}

// settleHold charges n by op to a hold in whatever state it is.
func settleHold(t *rapid.T, m *model, h *modelHold, op *ledger.Settle, n pair, do func(ledger.Op) (ledger.Answer, error)) {
	a, err := do(op)
	switch {
	case h.settled && op.Usage != nil && n == h.charged && !h.asHeld, h.settled && op.Usage == nil && h.asHeld:
		if err != nil || a.Amounts != n.amounts() || a.Late != h.late {
			t.Fatalf("Settle again: %+v, %v", a, err)
		}
	case h.settled:
		if !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
			t.Fatalf("Settle again with another usage: %v", err)
		}
	default:
		if err != nil || a.Amounts != n.amounts() || a.Late != (h.state != "held") || a.Overrun != n.above(h.n).amounts() {
			t.Fatalf("Settle of one %s: %+v, %v", h.state, a, err)
		}
		h.late, h.settled, h.charged, h.asHeld = h.state != "held", true, n, op.Usage == nil
		if h.state == "held" {
			h.state = "settled"
		}
		m.charge(h.budgets, n)
	}
}

// pairs are what a budget's only window says; nothing if it has no row.
func pairs(t *rapid.T, d *dbtest.Database, tenant uuid.UUID, budget string) (spent, held pair) {
	err := d.DB.Read(context.Background(), tenant, func(ctx context.Context, tx db.Tx) error {
		err := tx.QueryRow(ctx, `select cost_nano_spent, input_tokens_spent, cost_nano_held, input_tokens_held from fulcrum.budget_windows where tenant_id = $1 and budget_id = $2`, tenant, budget).
			Scan(&spent[0], &spent[1], &held[0], &held[1])
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return spent, held
}
