package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) budgetOverride() *cobra.Command {
	return group("override", "Change a budget's limits for a time", "", o.overrideCreate(), o.overrideList(), o.overrideRevoke())
}

func (o *operator) overrideCreate() *cobra.Command {
	req := &costv1.CreateBudgetOverrideRequest{Limits: &costv1.BudgetLimits{}}
	var from, until moment
	var long length
	var suspend, resume bool
	cmd := &cobra.Command{
		Use: "create NAME|ID", Short: "Put other limits in force until an instant; usage is not touched", Args: arguments("NAME or ID"),
		Example: `  fulcrum budget override create growth --cost 200 --for 4h --reason "launch day"
  fulcrum budget override create crawl --suspend --until 2026-12-01T08:00:00Z --reason "supplier is down"`,
	}
	f := cmd.Flags()
	f.Float64Var(&req.Limits.MaxCostUsd, "cost", 0, "limit in USD")
	f.Int64Var(&req.Limits.MaxTokens, "tokens", 0, "limit of tokens, input and output together")
	f.Int64Var(&req.Limits.MaxInputTokens, "input-tokens", 0, "limit of input tokens")
	f.Int64Var(&req.Limits.MaxOutputTokens, "output-tokens", 0, "limit of output tokens")
	f.Int32Var(&req.Limits.MaxLlmCalls, "model-calls", 0, "limit of model calls")
	f.Int32Var(&req.Limits.MaxToolCalls, "tool-calls", 0, "limit of tool calls")
	f.Int64Var(&req.Limits.MaxExecutionTimeSeconds, "seconds", 0, "limit of execution time")
	f.BoolVar(&suspend, "suspend", false, "refuse everything for the time")
	f.BoolVar(&resume, "resume", false, "lift a suspension for the time")
	f.Var(&from, "from", "when it starts, such as 2026-12-01T08:00:00Z (default now)")
	f.Var(&until, "until", "when it ends, such as 2026-12-01T20:00:00Z")
	f.Var(&long, "for", "how long it lasts, instead of --until")
	f.StringVar(&req.Reason, "reason", "", "why; it is on the record")
	cmd.MarkFlagsMutuallyExclusive("suspend", "resume")
	cmd.MarkFlagsMutuallyExclusive("until", "for")
	cmd.MarkFlagsOneRequired("until", "for")
	_ = cmd.MarkFlagRequired("reason") // it is a flag of this command
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		b, err := o.findBudget(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		req.BudgetId, req.StartsAt, req.EndsAt = b.GetBudgetId(), from.stamp(), until.stamp()
		if long.d > 0 {
			req.Duration = durationpb.New(long.d)
		}
		if suspend || resume {
			req.Suspended = &suspend
		}
		resp, err := c.costs.CreateBudgetOverride(once(ctx), req)
		if err != nil {
			return err
		}
		if err := o.list(cmd, resp.GetOverride(), overrideTable(resp.GetOverride()), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum budget override revoke %s %s", b.GetBudgetId(), resp.GetOverride().GetOverrideId())
		return nil
	})
	return cmd
}

func (o *operator) overrideList() *cobra.Command {
	var ended bool
	cmd := &cobra.Command{
		Use: "list NAME|ID", Short: "List a budget's overrides, newest first", Args: arguments("NAME or ID"),
		Example: "  fulcrum budget override list growth --ended",
	}
	cmd.Flags().BoolVar(&ended, "ended", false, "those that are over or were revoked, too")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		b, err := o.findBudget(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*costv1.BudgetOverride, string, error) {
			resp, err := c.costs.ListBudgetOverrides(ctx, &costv1.ListBudgetOverridesRequest{
				BudgetId: b.GetBudgetId(), IncludeEnded: ended, PageSize: size, PageToken: token,
			})
			return resp.GetOverrides(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return o.list(cmd, &costv1.ListBudgetOverridesResponse{Overrides: all}, overrideTable(all...), "no overrides")
	})
	return cmd
}

func (o *operator) overrideRevoke() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "revoke NAME|ID OVERRIDE", Short: "End an override now", Args: arguments("NAME or ID", "OVERRIDE"),
		Example: "  fulcrum budget override revoke growth 019a7c3e-5a10-7000-8000-000000000001",
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is on the record")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		b, err := o.findBudget(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		resp, err := c.costs.RevokeBudgetOverride(ctx, &costv1.RevokeBudgetOverrideRequest{BudgetId: b.GetBudgetId(), OverrideId: args[1], Reason: reason})
		if err != nil {
			return err
		}
		o.say(cmd, "the budget %q is back to its own limits", b.GetName())
		return o.changed(cmd, resp)
	})
	return cmd
}

func overrideTable(all ...*costv1.BudgetOverride) *terminal.Table {
	t := terminal.NewTable("STARTS", "ENDS", "INSTEAD", "REASON", "BY", "ID")
	for _, ov := range all {
		var instead []string
		for _, l := range measures(ov.GetLimits()) {
			instead = append(instead, l.show(l.of(ov.GetLimits()))+" "+l.name)
		}
		if ov.Suspended != nil {
			instead = append(instead, map[bool]string{true: "suspended", false: "not suspended"}[ov.GetSuspended()])
		}
		t.Row(when(ov.GetStartsAt()), overrideEnd(ov), strings.Join(instead, ", "), ov.GetReason(), ov.GetCreatedBy(), ov.GetOverrideId())
	}
	return t
}

func overrideEnd(ov *costv1.BudgetOverride) string {
	switch {
	case ov.GetRevokedAt() != nil:
		return when(ov.GetRevokedAt()) + " (revoked)"
	case ov.GetEndsAt().AsTime().Before(time.Now()):
		return when(ov.GetEndsAt()) + " (over)"
	}
	return when(timestamppb.New(ov.GetEndsAt().AsTime()))
}
