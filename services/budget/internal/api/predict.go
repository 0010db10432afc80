package api

import (
	"context"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/spend"
)

// defaultLookback is how many days of history are learned from if the caller
// does not say.
const defaultLookback = 30

// PredictCost implements costv1.CostServiceServer.
func (c *Costs) PredictCost(ctx context.Context, req *costv1.PredictCostRequest) (*costv1.PredictCostResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	cat, now, err := c.accounts.Fresh(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	days := req.GetLookbackDays()
	if days == 0 {
		days = defaultLookback
	}
	f, err := spend.Predict(ctx, c.accounts, cat, now, spend.Work{
		Workflow: req.GetWorkflowId(), Text: req.GetInputText(), Input: req.GetEstimatedInputTokens(), Models: req.GetModelIds(),
		Learn: req.GetUseHistoricalData(), Lookback: time.Duration(days) * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	out := &costv1.PredictCostResponse{
		HistoricalBased: f.Sample > 0,
		SampleSize:      int32of(f.Sample),
		Prediction: &costv1.CostPrediction{
			EstimatedInputTokens: f.Input, EstimatedOutputTokens: f.Output, EstimatedTotalTokens: f.Input + f.Output,
			EstimatedCostUsd: f.Cost.USD(), EstimatedCostUsdMin: f.Least.USD(), EstimatedCostUsdMax: f.Most.USD(),
			Confidence: float32(f.Confidence), ConfidenceLevel: spend.Level(f.Confidence), EstimatedDurationSeconds: f.Seconds,
		},
	}
	for _, m := range f.Models {
		out.Prediction.ModelPredictions = append(out.Prediction.ModelPredictions, &costv1.ModelCostPrediction{
			ModelId: m.Model, EstimatedTokens: m.Tokens, EstimatedCostUsd: m.Cost.USD(), EstimatedCalls: 1,
		})
	}
	return out, nil
}
