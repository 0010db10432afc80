package app_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// A workload is replayed through the service, and what it then predicts of the
// rest is compared with what the rest costs: the whole way through the tables.
func TestPredictionsHoldForTheRestOfAReplay(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	r := rand.New(rand.NewPCG(5, 8))
	type call struct{ in, out int64 }
	calls := make([]call, 260)
	for i := range calls {
		in := 800 * math.Exp(0.8*r.NormFloat64())
		calls[i] = call{int64(in) + 1, int64(in*0.3*math.Exp(0.4*r.NormFloat64())) + 1}
	}
	learn, rest := calls[:200], calls[200:]
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, c := range learn {
		g.Go(func() error {
			_, err := client.Settle(gctx, &budgetv1.SettleRequest{
				ReservationId: uuid.NewString(), IdempotencyKey: "k", Subject: &budgetv1.Subject{WorkflowId: "replay", Model: "gpt-4o"},
				Usage: &governancev1.Usage{InputTokens: c.in, OutputTokens: c.out},
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var errors []float64
	within := 0
	for _, c := range rest {
		p, err := client.costs.PredictCost(ctx, &costv1.PredictCostRequest{
			WorkflowId: "replay", ModelIds: []string{"gpt-4o"}, EstimatedInputTokens: c.in, UseHistoricalData: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		real := float64(c.in)*2.5e-6 + float64(c.out)*10e-6
		errors = append(errors, math.Abs(p.GetPrediction().GetEstimatedCostUsd()-real)/real)
		if real >= p.GetPrediction().GetEstimatedCostUsdMin() && real <= p.GetPrediction().GetEstimatedCostUsdMax() {
			within++
		}
	}
	slices.Sort(errors)
	median, covered := errors[len(errors)/2], float64(within)/float64(len(rest))
	t.Logf("replayed %d calls, predicted %d: median error %.1f %%, %.0f %% between min and max", len(learn), len(rest), 100*median, 100*covered)
	if median > 0.3 || covered < 0.65 {
		t.Errorf("median error %v, coverage %v", median, covered)
	}
}
