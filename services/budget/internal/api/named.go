package api

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// GetStandings implements budgetv1.LedgerServiceServer.
func (l *Ledger) GetStandings(ctx context.Context, req *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	of, err := subject(req.GetSubject())
	if err != nil {
		return nil, err
	}
	budgets, windows, err := l.reader.Named(ctx, tenant, req.GetNames(), &of)
	if err != nil {
		return nil, err
	}
	out := &budgetv1.GetStandingsResponse{}
	places := make(map[string]int, len(budgets))
	for i, b := range budgets {
		one := standingOf(b.Name, windows[i])
		at, twice := places[b.Name]
		switch {
		case !twice:
			places[b.Name], out.Standings = len(out.GetStandings()), append(out.GetStandings(), one)
		case one.GetUsedPercent() > out.GetStandings()[at].GetUsedPercent():
			out.Standings[at] = one
		}
	}
	return out, nil
}

func standingOf(name string, w *ledger.Window) *budgetv1.Standing {
	out := &budgetv1.Standing{Name: name, BudgetId: w.Budget}
	if percent, ok := w.UsedPercent(); ok {
		out.UsedPercent = proto.Float64(percent)
	}
	if limit := w.Limit[amount.Cost]; limit > 0 {
		out.RemainingUsd = proto.Float64(money.Nano(max(limit-w.Spent[amount.Cost]-w.Held[amount.Cost], 0)).USD())
	}
	return out
}
