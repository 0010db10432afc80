package postgres

import (
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// columns are amounts turned on their side: one slice a unit.
type columns [amount.Units][]int64

func (c *columns) add(a amount.Amounts) {
	for u, n := range a {
		c[u] = append(c[u], n)
	}
}

func window(row budgetdb.LockWindowsRow) *ledger.Window {
	return &ledger.Window{
		WindowKey:      windowKey(row.TenantID, row.BudgetID, row.WindowStart),
		End:            row.WindowEnd.UTC(),
		ConfigVersion:  row.ConfigVersion,
		Mode:           catalog.Mode(row.Mode),
		Suspended:      row.Suspended,
		Version:        row.Version,
		ReachedBP:      row.ReachedBp,
		ThrottledUntil: row.ThrottledUntil,
		Limit:          amount.Amounts{row.CostNanoLimit, row.TotalTokensLimit, row.InputTokensLimit, row.OutputTokensLimit, row.LlmCallsLimit, row.ToolCallsLimit, row.SecondsLimit},
		Held:           amount.Amounts{row.CostNanoHeld, row.TotalTokensHeld, row.InputTokensHeld, row.OutputTokensHeld, row.LlmCallsHeld, row.ToolCallsHeld, row.SecondsHeld},
		Spent:          amount.Amounts{row.CostNanoSpent, row.TotalTokensSpent, row.InputTokensSpent, row.OutputTokensSpent, row.LlmCallsSpent, row.ToolCallsSpent, row.SecondsSpent},
		Over:           amount.Amounts{row.CostNanoOver, row.TotalTokensOver, row.InputTokensOver, row.OutputTokensOver, row.LlmCallsOver, row.ToolCallsOver, row.SecondsOver},
	}
}

func reservation(row budgetdb.FindReservationsRow) *ledger.Reservation {
	res := &ledger.Reservation{
		Ref:          ledger.Ref{Tenant: row.TenantID, ID: row.ID},
		Hash:         [32]byte(row.RequestHash),
		Amounts:      amount.Amounts{row.CostNano, row.TotalTokens, row.InputTokens, row.OutputTokens, row.LlmCalls, row.ToolCalls, row.Seconds},
		PriceVersion: row.PriceVersion,
		Subject: catalog.Subject{
			Team: row.Team, AgentID: row.AgentID, UserID: row.UserID, WorkflowID: row.WorkflowID,
			APIKeyID: row.ApiKeyID, Model: row.Model, EnvelopeID: row.EnvelopeID,
		},
		CreatedAt: row.CreatedAt.UTC(),
		ExpiresAt: row.ExpiresAt.UTC(),
	}
	res.Parts, res.Behind = parts(row.TenantID, row.BudgetIds, row.WindowStarts, row.Vias)
	return res
}

// parts are the windows a reservation holds in, and those that stand behind
// slices among them.
func parts(tenant uuid.UUID, budgets []string, starts []time.Time, vias []string) (own []ledger.WindowKey, behind []ledger.Behind) {
	for i, budget := range budgets {
		key := windowKey(tenant, budget, starts[i])
		if i < len(vias) && vias[i] != "" {
			behind = append(behind, ledger.BehindOf(key, vias[i]))
		} else {
			own = append(own, key)
		}
	}
	return own, behind
}

func settlement(row budgetdb.FindSettlementsRow) *ledger.Settlement {
	return &ledger.Settlement{
		Ref:          ledger.Ref{Tenant: row.TenantID, ID: row.ReservationID},
		Late:         row.Late,
		Kind:         ledger.Kind(row.Kind),
		Key:          row.IdempotencyKey,
		Hash:         [32]byte(row.RequestHash),
		Charged:      amount.Amounts{row.CostNano, row.TotalTokens, row.InputTokens, row.OutputTokens, row.LlmCalls, row.ToolCalls, row.Seconds},
		Model:        row.Model,
		PriceVersion: row.PriceVersion,
		CreatedAt:    row.CreatedAt.UTC(),
	}
}

func renewal(row budgetdb.FindRenewalsRow) *ledger.Renewal {
	return &ledger.Renewal{
		RenewalKey: ledger.RenewalKey{Ref: ledger.Ref{Tenant: row.TenantID, ID: row.ReservationID}, Key: row.IdempotencyKey},
		TTL:        time.Duration(row.TtlMs) * time.Millisecond,
		ExpiresAt:  row.ExpiresAt.UTC(),
	}
}
