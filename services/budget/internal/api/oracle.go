package api

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/oracle"
)

// Records is what the oracle reads.
type Records interface {
	Fresh(ctx context.Context, tenant uuid.UUID) (*catalog.Catalog, time.Time, error)
	Status(ctx context.Context, tenant uuid.UUID, id string) (*catalog.Budget, *ledger.Window, time.Time, error)
	Series(ctx context.Context, tenant uuid.UUID, budget string, from time.Time) ([]oracle.Used, error)
}

// Oracle is the gRPC face of the predictions about budgets.
type Oracle struct {
	brainv1.UnimplementedOracleServiceServer
	records Records
	models  *oracle.Models
}

// NewOracle returns an Oracle over records and models.
func NewOracle(records Records, models *oracle.Models) *Oracle {
	return &Oracle{records: records, models: models}
}

// PredictBudgetOverrun implements brainv1.OracleServiceServer.
func (o *Oracle) PredictBudgetOverrun(ctx context.Context, req *brainv1.PredictBudgetOverrunRequest) (*brainv1.PredictBudgetOverrunResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	b, w, now, err := o.records.Status(ctx, who.Tenant, req.GetBudgetId())
	if err != nil {
		return nil, err
	}
	hours, err := o.records.Series(ctx, who.Tenant, b.ID, now.Add(-oracle.Memory))
	if err != nil {
		return nil, err
	}
	v := oracle.Judge(oracle.Budget{
		Limit: w.Limit, Spent: w.Spent, Held: w.Held, Zone: b.Period.Zone, End: w.End, Endless: !w.End.Before(calendar.Never),
		Suspended: w.Suspended, Hours: hours,
	}, now)
	out := overrun(b, w, v)
	out.Model, err = o.modelFor(ctx, who.Tenant, or(req.GetWorkflowId(), b.Scope.WorkflowID), now)
	return out, err
}

func overrun(b *catalog.Budget, w *ledger.Window, v oracle.Verdict) *brainv1.PredictBudgetOverrunResponse {
	out := &brainv1.PredictBudgetOverrunResponse{
		BudgetId:           b.ID,
		PredictedCost:      dollars(v.Cost),
		PredictedCostLow:   dollars(v.CostLow),
		PredictedCostHigh:  dollars(v.CostHigh),
		RemainingBudget:    money.Nano(max(w.Limit[amount.Cost]-w.Spent[amount.Cost]-w.Held[amount.Cost], 0)).USD(),
		OverrunProbability: v.Probability,
		RecommendedAction:  brainv1.RecommendedAction(v.Action),
		Confidence:         v.Confidence,
		WindowStart:        timestamppb.New(w.StartTime()),
		WindowEnd:          timestamppb.New(v.Until),
		Unit:               v.Unit.String(),
		Message:            v.Message,
		HistoryDays:        v.Days,
	}
	if !v.Exhausted.IsZero() {
		out.ExpectedExhaustionAt = timestamppb.New(v.Exhausted)
	}
	return out
}

// modelFor is the model of a workflow, or of all if none is named; nil if
// nothing ran.
func (o *Oracle) modelFor(ctx context.Context, tenant uuid.UUID, workflow string, now time.Time) (*brainv1.PredictionModel, error) {
	if workflow == "" {
		m, err := o.models.All(ctx, tenant, now)
		if err != nil || m.Runs == 0 {
			return nil, err
		}
		return model(tenant, m), nil
	}
	m, _, err := o.models.Of(ctx, tenant, workflow, now, false)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return model(tenant, m), nil
}

// GetPredictionModel implements brainv1.OracleServiceServer.
func (o *Oracle) GetPredictionModel(ctx context.Context, req *brainv1.GetPredictionModelRequest) (*brainv1.GetPredictionModelResponse, error) {
	who, now, err := o.begin(ctx)
	if err != nil {
		return nil, err
	}
	m, cached, err := o.models.Of(ctx, who.Tenant, req.GetWorkflowId(), now, req.GetForceRebuild())
	if err != nil {
		return nil, err
	}
	return &brainv1.GetPredictionModelResponse{Model: model(who.Tenant, m), FromCache: cached}, nil
}

// ListPredictionModels implements brainv1.OracleServiceServer.
func (o *Oracle) ListPredictionModels(ctx context.Context, req *brainv1.ListPredictionModelsRequest) (*brainv1.ListPredictionModelsResponse, error) {
	who, now, err := o.begin(ctx)
	if err != nil {
		return nil, err
	}
	p, err := readPage(req.GetPageSize(), req.GetPageToken(), "models", who.Tenant.String())
	if err != nil {
		return nil, err
	}
	models, err := o.models.After(ctx, who.Tenant, p.after, now, p.size+1)
	if err != nil {
		return nil, err
	}
	out := &brainv1.ListPredictionModelsResponse{}
	if len(models) > p.size {
		models = models[:p.size]
		out.NextPageToken = p.next(models[p.size-1].Workflow)
	}
	for _, m := range models {
		out.Models = append(out.Models, model(who.Tenant, m))
	}
	return out, nil
}

func (o *Oracle) begin(ctx context.Context) (identity.Principal, time.Time, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return who, time.Time{}, err
	}
	_, now, err := o.records.Fresh(ctx, who.Tenant)
	return who, now, err
}

func model(tenant uuid.UUID, m oracle.Model) *brainv1.PredictionModel {
	e := oracle.Measured()
	return &brainv1.PredictionModel{
		TenantId:         tenant.String(),
		WorkflowId:       m.Workflow,
		AvgCostPerRun:    dollars(m.Mean),
		StdDevCostPerRun: dollars(m.Deviation),
		AvgTokensPerRun:  int64(m.Tokens + 0.5),
		RunsPerHour:      m.PerHour,
		LastUpdated:      timestamppb.New(m.At),
		SampleSize:       int32of(m.Runs),
		Error: &brainv1.PredictionError{
			ModelVersion: oracle.Version, Windows: int32of(int64(e.Windows)),
			MeanAbsolutePercentageError: e.MAPE, NaiveMeanAbsolutePercentageError: e.NaiveMAPE,
			IntervalCoverage: e.Coverage, BrierScore: e.Brier, NaiveBrierScore: e.NaiveBrier,
		},
	}
}

// dollars is an estimate in nano-USD as the contract shows it.
func dollars(nano float64) float64 { return nano / 1e9 }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
