// Package peer is how the gateway calls the other services.
package peer

import (
	"context"

	"google.golang.org/grpc"

	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// Policies is decision.Policies over a connection to the policy engine.
type Policies struct {
	client policyenginev1.EvaluationServiceClient
}

// NewPolicies returns Policies over conn.
func NewPolicies(conn grpc.ClientConnInterface) *Policies {
	return &Policies{policyenginev1.NewEvaluationServiceClient(conn)}
}

// Evaluate implements decision.Policies.
func (p *Policies) Evaluate(ctx context.Context, req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	return p.client.Evaluate(ctx, req)
}

// Ledger is decision.Ledger over a connection to the budget service.
type Ledger struct {
	ledger budgetv1.LedgerServiceClient
	cost   costv1.CostServiceClient
}

// NewLedger returns a Ledger over conn.
func NewLedger(conn grpc.ClientConnInterface) *Ledger {
	return &Ledger{budgetv1.NewLedgerServiceClient(conn), costv1.NewCostServiceClient(conn)}
}

// Reserve implements decision.Ledger.
func (l *Ledger) Reserve(ctx context.Context, req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
	return l.ledger.Reserve(ctx, req)
}

// Settle implements decision.Ledger.
func (l *Ledger) Settle(ctx context.Context, req *budgetv1.SettleRequest) (*budgetv1.SettleResponse, error) {
	return l.ledger.Settle(ctx, req)
}

// Release implements decision.Ledger.
func (l *Ledger) Release(ctx context.Context, req *budgetv1.ReleaseRequest) (*budgetv1.ReleaseResponse, error) {
	return l.ledger.Release(ctx, req)
}

// Renew implements decision.Ledger.
func (l *Ledger) Renew(ctx context.Context, req *budgetv1.RenewRequest) (*budgetv1.RenewResponse, error) {
	return l.ledger.Renew(ctx, req)
}

// TakeSlice implements decision.Ledger.
func (l *Ledger) TakeSlice(ctx context.Context, req *budgetv1.TakeSliceRequest) (*budgetv1.TakeSliceResponse, error) {
	return l.ledger.TakeSlice(ctx, req)
}

// GetStandings implements decision.Ledger.
func (l *Ledger) GetStandings(ctx context.Context, req *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
	return l.ledger.GetStandings(ctx, req)
}

// ReturnSlice implements sweep.Ledger.
func (l *Ledger) ReturnSlice(ctx context.Context, req *budgetv1.ReturnSliceRequest) (*budgetv1.ReturnSliceResponse, error) {
	return l.ledger.ReturnSlice(ctx, req)
}

// Budget implements decision.Ledger.
func (l *Ledger) Budget(ctx context.Context, id string) (*costv1.BudgetStatus, error) {
	resp, err := l.cost.GetBudgetStatus(ctx, &costv1.GetBudgetStatusRequest{BudgetId: id})
	return resp.GetStatus(), err
}
