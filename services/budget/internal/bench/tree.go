package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// tree is budgets on three levels: each tenant's, its teams' and its agents'.
// Every hold draws on one of each.
type tree struct {
	tenants  []uuid.UUID
	subjects []catalog.Subject // of each agent of a tenant
}

const teams = 10

// grow makes tenants with, together, about this many agents' budgets.
func grow(ctx context.Context, s *server, tenants, leaves int) (*tree, error) {
	t := &tree{}
	for i := range leaves / tenants {
		t.subjects = append(t.subjects, catalog.Subject{AgentID: "agent-" + strconv.Itoa(i), Team: "team-" + strconv.Itoa(i%teams)})
	}
	for range tenants {
		budgets := []*costv1.Budget{level("tenant", nil)}
		for i, s := range t.subjects {
			if i < teams {
				budgets = append(budgets, level(s.Team, &costv1.BudgetScope{Team: s.Team}))
			}
			budgets = append(budgets, level(s.AgentID, &costv1.BudgetScope{AgentId: s.AgentID}))
		}
		id, err := s.tenant(ctx, budgets)
		if err != nil {
			return nil, err
		}
		t.tenants = append(t.tenants, id)
	}
	return t, nil
}

// level is a budget that will not run out.
func level(id string, scope *costv1.BudgetScope) *costv1.Budget {
	return &costv1.Budget{
		BudgetId: id, Name: id, Scope: scope, Limits: &costv1.BudgetLimits{MaxCostUsd: 1e6},
		Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_MONTHLY},
	}
}

// leaves is how many paths there are.
func (t *tree) leaves() int { return len(t.tenants) * len(t.subjects) }

// at is a hold on the path of leaf i, as a caller asks for it: not sealed.
func (t *tree) at(i int) *ledger.Reserve {
	return &ledger.Reserve{
		Ref: ledger.Ref{Tenant: t.tenants[i%len(t.tenants)], ID: uuid.Must(uuid.NewV7())}, TTL: time.Hour,
		Subject: t.subjects[i/len(t.tenants)],
		Amounts: amount.Amounts{amount.Cost: 1},
	}
}

// any is a hold on a path by chance.
func (t *tree) any() *ledger.Reserve { return t.at(rand.IntN(t.leaves())) }

func granted(a ledger.Answer, err error) error {
	if err == nil && len(a.States) != 3 {
		err = fmt.Errorf("held in %d budgets instead of 3: %s", len(a.States), a.Message)
	}
	return err
}
