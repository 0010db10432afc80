package postgres

import (
	"context"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func (b *batch) findMovements(ctx context.Context, q *budgetdb.Queries) error {
	rows, err := q.FindMovements(ctx, b.movements)
	for _, row := range rows {
		m := movement(row)
		b.books.Movements[m.MovementKey] = m
	}
	return err
}

func movement(row budgetdb.FulcrumLedgerMovement) *ledger.Movement {
	m := &ledger.Movement{
		MovementKey: ledger.MovementKey{Tenant: row.TenantID, Key: row.IdempotencyKey},
		ID:          row.ID, Hash: [32]byte(row.RequestHash), Kind: ledger.MoveKind(row.Kind), Account: row.BudgetID,
		Cost: row.CostNano, Balance: row.BalanceNano, Reference: row.Reference, Reason: row.Reason, Actor: row.Actor, At: row.OccurredAt.UTC(),
	}
	if row.ReservationID != nil {
		m.Reservation = *row.ReservationID
	}
	return m
}

func (b *batch) movementParams(list []*ledger.Movement) budgetdb.InsertMovementsParams {
	arg := budgetdb.InsertMovementsParams{OccurredAt: b.books.Now}
	for _, m := range list {
		arg.TenantIds = append(arg.TenantIds, m.Tenant)
		arg.Keys = append(arg.Keys, m.Key)
		arg.Ids = append(arg.Ids, m.ID)
		arg.RequestHashes = append(arg.RequestHashes, m.Hash[:])
		arg.Kinds = append(arg.Kinds, string(m.Kind))
		arg.BudgetIds = append(arg.BudgetIds, m.Account)
		arg.ReservationIds = append(arg.ReservationIds, m.Reservation)
		arg.CostNano = append(arg.CostNano, m.Cost)
		arg.BalanceNano = append(arg.BalanceNano, m.Balance)
		arg.Refs = append(arg.Refs, m.Reference)
		arg.Reasons = append(arg.Reasons, m.Reason)
		arg.Actors = append(arg.Actors, m.Actor)
	}
	return arg
}
