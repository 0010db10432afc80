package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) budgetStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME|ID]", Short: "Show what is spent, held and left of budgets", Args: cobra.MaximumNArgs(1),
		Example: "  fulcrum budget status\n  fulcrum budget status growth -o json",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			var all []*costv1.Budget
			var err error
			if len(args) == 1 {
				var one *costv1.Budget
				one, err = o.findBudget(ctx, cmd, c, args[0])
				all = append(all, one)
			} else {
				all, err = o.liveBudgets(ctx, cmd, c, &costv1.ListBudgetsRequest{})
			}
			if err != nil {
				return err
			}
			p := o.pulse(cmd, "asked")
			defer p.end()
			t := terminal.NewTable("BUDGET", "STATUS", "OF", ">LIMIT", ">SPENT", ">HELD", ">LEFT", ">USED", "RESETS")
			for i, b := range all {
				resp, err := c.costs.GetBudgetStatus(ctx, &costv1.GetBudgetStatusRequest{BudgetId: b.GetBudgetId()})
				if err != nil {
					return fmt.Errorf("budget %q: %w", b.GetName(), err)
				}
				s := resp.GetStatus()
				b.CurrentSpend, b.Status, b.ResetAt = s.GetCurrentSpend(), s.GetStatus(), s.GetCurrentSpend().GetPeriodEnd()
				standing(t, b, s)
				p.set(int64(i+1), int64(len(all)))
			}
			if len(args) == 1 && o.json() {
				return terminal.JSON(cmd.OutOrStdout(), all[0])
			}
			return o.list(cmd, &costv1.ListBudgetsResponse{Budgets: all, TotalCount: int32(len(all))}, t, "no budgets")
		}),
	}
}

// standing adds a row for everything that a budget limits now: an override may
// stand in for its own limits.
func standing(t *terminal.Table, b *costv1.Budget, s *costv1.BudgetStatus) {
	limits, status := s.GetLimits(), terminal.Word(s.GetStatus())
	if o := s.GetOverride(); o != nil {
		status += " (override until " + when(o.GetEndsAt()) + ")"
	}
	for _, m := range measures(limits) {
		limit, spent := m.of(limits), m.spent(s.GetCurrentSpend())
		t.Row(b.GetName(), status, m.name, m.show(limit), m.show(spent), m.show(m.of(s.GetHeld())), m.show(m.of(s.GetRemaining())),
			fmt.Sprintf("%.1f%%", 100*spent/limit), when(s.GetCurrentSpend().GetPeriodEnd()))
	}
}

func (o *operator) spendCommand() *cobra.Command {
	var since, until moment
	var workflow, zone string
	var executions bool
	cmd := &cobra.Command{
		Use: "spend", Short: "Show what was spent, by model, day, team, agent and more", Args: arguments(),
		Long:    "Show what was spent: whole hours, of the last 30 days unless --since says otherwise.",
		Example: "  fulcrum spend\n  fulcrum spend --by agent --since 7d\n  fulcrum spend --by day --since 2026-11-01 --until 2026-12-01 -o json",
	}
	by := enumFlag[costv1.SpendGroupBy](cmd, "by", "split by")
	cmd.Flags().Var(&since, "since", "from then on (default 30d ago)")
	cmd.Flags().Var(&until, "until", "until then (default now)")
	cmd.Flags().StringVar(&workflow, "workflow", "", "only of this workflow")
	cmd.Flags().StringVar(&zone, "time-zone", "", "IANA zone by which days, weeks and months begin (default the tenant's)")
	cmd.Flags().BoolVar(&executions, "executions", false, "also show how many executions there were, and how they ended")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		resp, err := c.costs.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{
			GroupBy: by(), WorkflowId: workflow, TimeZone: zone, StartTime: since.stamp(), EndTime: until.stamp()})
		if err != nil {
			return err
		}
		heading := terminal.Word(by())
		if heading == "" {
			heading = "SPENT"
		}
		headings := []string{heading, ">COST", ">INPUT TOKENS", ">OUTPUT TOKENS", ">MODEL CALLS", ">TOOL CALLS"}
		if executions {
			headings = append(headings, ">EXECUTIONS", ">COMPLETED", ">FAILED", ">TERMINATED")
		}
		t := terminal.NewTable(headings...)
		row := func(name string, s *costv1.SpendSummary) {
			t.Row(name, usd(s.GetTotalCostUsd()), count(s.GetTotalInputTokens()), count(s.GetTotalOutputTokens()), count(s.GetTotalLlmCalls()), count(s.GetTotalToolCalls()),
				count(s.GetTotalExecutions()), count(s.GetCompletedExecutions()), count(s.GetFailedExecutions()), count(s.GetTerminatedExecutions()))
		}
		for _, g := range resp.GetGroupedSummaries() {
			if !executions && idle(g.GetSummary()) {
				continue
			}
			row(g.GetGroupKey(), g.GetSummary())
		}
		row("total", resp.GetSummary())
		if err := o.answer(cmd, resp, t.Write); err != nil {
			return err
		}
		o.say(cmd, "from %s to %s", when(resp.GetSummary().GetPeriodStart()), when(resp.GetSummary().GetPeriodEnd()))
		return nil
	})
	return o.remote(cmd)
}

// idle reports whether there were at most executions.
func idle(s *costv1.SpendSummary) bool {
	return s.GetTotalCostUsd() == 0 && s.GetTotalTokens() == 0 && s.GetTotalLlmCalls() == 0 && s.GetTotalToolCalls() == 0 && s.GetTotalExecutionTimeSeconds() == 0
}

// readAll reads a small file, or standard input for "-".
func readAll(cmd *cobra.Command, file string) (string, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 1<<20))
	return string(text), err
}
