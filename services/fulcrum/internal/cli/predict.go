package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) predictCommand() *cobra.Command {
	return o.remote(group("predict", "Predict what work will cost, and whether a budget will do", "",
		o.predictCost(), o.predictBudget(), o.predictModels()))
}

func (o *operator) predictCost() *cobra.Command {
	req := &costv1.PredictCostRequest{UseHistoricalData: true}
	var text string
	var back length
	var pricesOnly bool
	cmd := &cobra.Command{
		Use: "cost", Short: "Predict what one call of each model costs", Args: arguments(),
		Example: "  fulcrum predict cost --model gpt-4o --input-tokens 2000\n  fulcrum predict cost --workflow crawl\n  fulcrum predict cost --model gpt-4o --text prompt.txt --prices-only",
	}
	f := cmd.Flags()
	f.StringArrayVar(&req.ModelIds, "model", nil, "a model to call; again for more (default those the workflow called)")
	f.StringVar(&req.WorkflowId, "workflow", "", "learn from this workflow's calls only")
	f.Int64Var(&req.EstimatedInputTokens, "input-tokens", 0, "tokens that go in")
	f.StringVar(&text, "text", "", "file with what goes in, to be counted; - for standard input")
	f.Var(&back, "lookback", "how much history to learn from (default 30d)")
	f.BoolVar(&pricesOnly, "prices-only", false, "go by the price list, not by history")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		if text != "" {
			var err error
			if req.InputText, err = readAll(cmd, text); err != nil {
				return err
			}
		}
		req.UseHistoricalData = !pricesOnly
		if back.d > 0 {
			req.LookbackDays = int32(max(1, back.d/(24*time.Hour)))
		}
		resp, err := c.costs.PredictCost(ctx, req)
		if err != nil {
			return err
		}
		return o.answer(cmd, resp, func(out io.Writer, color bool) error {
			t := terminal.NewTable("MODEL", ">CALLS", ">TOKENS", ">COST")
			for _, m := range resp.GetPrediction().GetModelPredictions() {
				t.Row(m.GetModelId(), count(m.GetEstimatedCalls()), count(m.GetEstimatedTokens()), usd(m.GetEstimatedCostUsd()))
			}
			if err := t.Write(out, color); err != nil {
				return err
			}
			p := resp.GetPrediction()
			basis := "the price list; how much comes out is a guess"
			if resp.GetHistoricalBased() {
				basis = count(resp.GetSampleSize()) + " calls like it"
			}
			var facts terminal.Facts
			facts.Add("total", fmt.Sprintf("%s, most likely between %s and %s", usd(p.GetEstimatedCostUsd()), usd(p.GetEstimatedCostUsdMin()), usd(p.GetEstimatedCostUsdMax())))
			facts.Add("tokens", fmt.Sprintf("%s in, %s out", count(p.GetEstimatedInputTokens()), count(p.GetEstimatedOutputTokens())))
			facts.Add("confidence", fmt.Sprintf("%s (%.2f)", p.GetConfidenceLevel(), p.GetConfidence()))
			facts.Add("rests on", basis)
			return facts.Write(out, color)
		})
	})
	return cmd
}

func (o *operator) predictBudget() *cobra.Command {
	return &cobra.Command{
		Use: "budget NAME|ID", Short: "Predict whether a budget runs out in its window", Args: arguments("NAME or ID"),
		Example: "  fulcrum predict budget growth\n  fulcrum predict budget growth -o json",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			b, err := o.findBudget(ctx, cmd, c, args[0])
			if err != nil {
				return err
			}
			p, err := c.oracle.PredictBudgetOverrun(ctx, &brainv1.PredictBudgetOverrunRequest{BudgetId: b.GetBudgetId()})
			if err != nil {
				return err
			}
			return o.answer(cmd, p, func(out io.Writer, color bool) error {
				var facts terminal.Facts
				facts.Add("budget", b.GetName())
				facts.Add("do", terminal.Word(p.GetRecommendedAction()))
				facts.Add("because", p.GetMessage())
				facts.Add("overrun", fmt.Sprintf("%.0f %% likely, of %s", 100*p.GetOverrunProbability(), p.GetUnit()))
				facts.Add("reached", when(p.GetExpectedExhaustionAt()))
				facts.Add("cost by then", fmt.Sprintf("%s, most likely between %s and %s", usd(p.GetPredictedCost()), usd(p.GetPredictedCostLow()), usd(p.GetPredictedCostHigh())))
				facts.Add("left", usd(p.GetRemainingBudget()))
				facts.Add("window", when(p.GetWindowStart())+" to "+when(p.GetWindowEnd()))
				facts.Add("confidence", fmt.Sprintf("%.2f, from %.1f days of history", p.GetConfidence(), p.GetHistoryDays()))
				if m := p.GetModel(); m != nil {
					facts.Add("a run", runOf(m))
				}
				return facts.Write(out, color)
			})
		}),
	}
}

func runOf(m *brainv1.PredictionModel) string {
	return fmt.Sprintf("%s ± %s, %s tokens; %.2f runs an hour", usd(m.GetAvgCostPerRun()), usd(m.GetStdDevCostPerRun()), count(m.GetAvgTokensPerRun()), m.GetRunsPerHour())
}

func (o *operator) predictModels() *cobra.Command {
	return &cobra.Command{
		Use: "models", Short: "Show what runs of each workflow cost, and how well predictions did", Args: arguments(), Example: "  fulcrum predict models",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*brainv1.PredictionModel, string, error) {
				resp, err := c.oracle.ListPredictionModels(ctx, &brainv1.ListPredictionModelsRequest{PageSize: size, PageToken: token})
				return resp.GetModels(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			t := terminal.NewTable("WORKFLOW", ">RUNS", ">COST OF A RUN", ">±", ">TOKENS", ">RUNS AN HOUR", "AS OF")
			for _, m := range all {
				t.Row(m.GetWorkflowId(), count(m.GetSampleSize()), usd(m.GetAvgCostPerRun()), usd(m.GetStdDevCostPerRun()), count(m.GetAvgTokensPerRun()),
					fmt.Sprintf("%.2f", m.GetRunsPerHour()), when(m.GetLastUpdated()))
			}
			if err := o.list(cmd, &brainv1.ListPredictionModelsResponse{Models: all}, t, "no workflow ran in the last 30 days"); err != nil {
				return err
			}
			if len(all) > 0 {
				e := all[0].GetError()
				o.say(cmd, "budget predictions (%s) were off by %.1f %% of a window's cost (spending on as before: %.1f %%), and held %.0f %% of windows within their bounds",
					e.GetModelVersion(), 100*e.GetMeanAbsolutePercentageError(), 100*e.GetNaiveMeanAbsolutePercentageError(), 100*e.GetIntervalCoverage())
			}
			return nil
		}),
	}
}
