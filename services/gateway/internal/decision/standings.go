package decision

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// standings adds to f how far the named budgets are used. What the ledger does not
// tell in time stays unknown, and conditions on it fail: it keeps the budgets
// whatever is known here, so no decision waits long for this.
func (p *Pipeline) standings(ctx context.Context, c *counted, f *policyenginev1.Facts, names []string) {
	f.BudgetUsedPercent, f.BudgetRemainingUsd = nil, nil
	if len(names) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(p.Limits.Standings, time.Second))
	defer cancel()
	told, err := p.Ledger.GetStandings(limited, &budgetv1.GetStandingsRequest{
		Names: names, Subject: subject(c.actor, c.who.KeyID, f.GetModelId(), f.GetWorkflowId(), c.env),
	})
	if err != nil {
		p.Log.LogAttrs(ctx, slog.LevelWarn, "budgets could not be asked, policies do not know their standing",
			slog.String("tenant_id", c.who.Tenant.String()), slog.Any("err", err))
		return
	}
	f.BudgetUsedPercent, f.BudgetRemainingUsd = make(map[string]float64), make(map[string]float64)
	for _, s := range told.GetStandings() {
		if s.UsedPercent != nil {
			f.BudgetUsedPercent[s.GetName()] = s.GetUsedPercent()
		}
		if s.RemainingUsd != nil {
			f.BudgetRemainingUsd[s.GetName()] = s.GetRemainingUsd()
		}
	}
}
