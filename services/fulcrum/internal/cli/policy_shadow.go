package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) policyShadow() *cobra.Command {
	return group("shadow", "Let a version judge live traffic without deciding", `Let a version of a policy judge a share of the decisions beside the answer. What it
says is recorded with the decision and never changes it.`,
		o.shadowStart(), o.shadowStop(), o.shadowList(), o.shadowReport())
}

func shadowTable(all ...*lifecyclev1.PolicyShadow) *terminal.Table {
	t := terminal.NewTable("POLICY", ">VERSION", ">SHARE", "BY", "SINCE")
	for _, s := range all {
		t.Row(s.GetPolicyName(), s.GetVersion(), fmt.Sprintf("%g %%", s.GetPercent()), s.GetStartedBy(), when(s.GetStartedAt()))
	}
	return t
}

func (o *operator) shadowStart() *cobra.Command {
	var percent float64
	var version int64
	cmd := &cobra.Command{
		Use: "start NAME|ID", Short: "Put a version in shadow", Args: arguments("NAME or ID"),
		Example: "  fulcrum policy shadow start refunds --percent 10",
	}
	cmd.Flags().Float64Var(&percent, "percent", 100, "share of the decisions, chosen by their ids")
	cmd.Flags().Int64Var(&version, "version", 0, "a stored version (default: the newest)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		p, err := o.findPolicy(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		resp, err := c.lifecycle.StartPolicyShadow(ctx, &lifecyclev1.StartPolicyShadowRequest{PolicyId: p.GetPolicyId(), Version: version, Percent: percent})
		if err != nil {
			return err
		}
		if err := o.list(cmd, resp, shadowTable(resp.GetShadow()), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum policy shadow report %s", p.GetName())
		return nil
	})
	return cmd
}

func (o *operator) shadowStop() *cobra.Command {
	return &cobra.Command{
		Use: "stop NAME|ID", Short: "Take a policy out of shadow", Args: arguments("NAME or ID"),
		Example: "  fulcrum policy shadow stop refunds",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			p, err := o.findPolicy(ctx, cmd, c, args[0])
			if err != nil {
				return err
			}
			resp, err := c.lifecycle.StopPolicyShadow(ctx, &lifecyclev1.StopPolicyShadowRequest{PolicyId: p.GetPolicyId()})
			if err != nil {
				return err
			}
			if !resp.GetStopped() {
				o.say(cmd, "%s was not in shadow", p.GetName())
			}
			return o.changed(cmd, resp)
		}),
	}
}

func (o *operator) shadowList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the policies in shadow", Args: arguments(),
		Example: "  fulcrum policy shadow list",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.lifecycle.ListPolicyShadows(ctx, &lifecyclev1.ListPolicyShadowsRequest{})
			if err != nil {
				return err
			}
			return o.list(cmd, resp, shadowTable(resp.GetShadows()...), "no policy is in shadow")
		}),
	}
}

func (o *operator) shadowReport() *cobra.Command {
	var days float64
	var version int64
	cmd := &cobra.Command{
		Use: "report NAME|ID", Short: "Show where a shadow and the answers differed", Args: arguments("NAME or ID"),
		Example: "  fulcrum policy shadow report refunds --days 2",
	}
	cmd.Flags().Float64Var(&days, "days", 7, "how far to look back")
	cmd.Flags().Int64Var(&version, "version", 0, "of one version (default: any)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		p, err := o.findPolicy(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		resp, err := c.lifecycle.GetPolicyShadowReport(ctx, &lifecyclev1.GetPolicyShadowReportRequest{
			PolicyId: p.GetPolicyId(), Version: version, StartTime: timestamppb.New(time.Now().Add(-time.Duration(days * 24 * float64(time.Hour)))),
		})
		if err != nil {
			return err
		}
		return o.answer(cmd, resp.GetReport(), func(out io.Writer, color bool) error { return writeReport(out, color, resp.GetReport()) })
	})
	return cmd
}
