package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) holdCommand() *cobra.Command {
	return o.remote(group("hold", "See what is held, and give back what is stuck", "", o.holdList(), o.holdRelease()))
}

func (o *operator) holdList() *cobra.Command {
	req := &ledgerv1.ListHoldsRequest{}
	var budget string
	var older length
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List holds that have not ended, those that run out first, first", Args: arguments(),
		Example: "  fulcrum hold list\n  fulcrum hold list --budget growth --older-than 30m",
	}
	cmd.Flags().StringVar(&budget, "budget", "", "only in this budget (name or id), or wallet:<id>")
	cmd.Flags().Var(&older, "older-than", "only those granted so long ago, such as 30m")
	cmd.Flags().BoolVar(&req.PastSweep, "past-sweep", false, "also those that ran out and were overlooked, by reading every hold there ever was")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most; 0: all")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		req.BudgetId, req.OlderThanSeconds = budget, int64(older.d.Seconds())
		if budget != "" && !strings.Contains(budget, ":") {
			b, err := o.findBudget(ctx, cmd, c, budget)
			if err != nil {
				return err
			}
			req.BudgetId = b.GetBudgetId()
		}
		all, more, err := pages(o, cmd, limit, func(token string, size int32) ([]*ledgerv1.OpenHold, string, error) {
			req.PageToken, req.PageSize = token, size
			resp, err := c.books.ListHolds(ctx, req)
			return resp.GetHolds(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		t := terminal.NewTable("RESERVATION", "HELD SINCE", "RUNS OUT", ">COST", ">TOKENS", "AGENT", "BUDGETS")
		for _, h := range all {
			a := h.GetAmounts()
			t.Row(h.GetReservationId(), when(h.GetCreatedAt()), when(h.GetExpiresAt()), dollars(a.GetCostNano()), count(a.GetInputTokens()+a.GetOutputTokens()),
				h.GetAgentId(), strings.Join(h.GetBudgetIds(), " "))
		}
		if err := o.list(cmd, &ledgerv1.ListHoldsResponse{Holds: all}, t, "nothing is held"); err != nil {
			return err
		}
		if more {
			o.say(cmd, "there are more: --limit 0 shows all")
		}
		return nil
	})
	return cmd
}

func (o *operator) holdRelease() *cobra.Command {
	req := &ledgerv1.ReleaseHoldRequest{}
	cmd := &cobra.Command{
		Use: "release RESERVATION", Short: "Give a hold back by hand", Args: arguments("RESERVATION"),
		Long: `Give a hold back by hand. If the action did happen after all, its settlement is
still charged in full, as late.`,
		Example: "  fulcrum hold release 01a1fded-d2d8-7cf5-a33a-12f85d2852f1 --reason 'agent crashed'",
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record (required)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		req.ReservationId = args[0]
		resp, err := c.books.ReleaseHold(ctx, req)
		if err != nil {
			return err
		}
		o.say(cmd, "%s", released(resp))
		return o.changed(cmd, resp)
	})
	return cmd
}

func released(resp *ledgerv1.ReleaseHoldResponse) string {
	a := resp.GetReleased()
	if a.GetCostNano() == 0 && a.GetInputTokens()+a.GetOutputTokens()+a.GetLlmCalls()+a.GetToolCalls()+a.GetSeconds() == 0 {
		return "it had run out already: nothing was left to give back"
	}
	text := fmt.Sprintf("gave %s back", dollars(a.GetCostNano()))
	if s := a.GetSeconds(); s > 0 {
		text += " and " + (time.Duration(s) * time.Second).String()
	}
	return text
}
