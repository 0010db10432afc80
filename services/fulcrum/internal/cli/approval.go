package cli

import (
	"context"

	"github.com/spf13/cobra"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) approvalCommand() *cobra.Command {
	return o.remote(group("approval", "Answer what waits for a person", `Answer what waits for a person. The reviewer is the owner of the key: it needs
approval:write, and the role that the rule asks for. Nobody approves their own.`,
		o.approvalList(), o.approvalAnswer("approve", "APPROVED", "Let one action happen"), o.approvalAnswer("reject", "REJECTED", "Refuse one action")))
}

func (o *operator) approvalList() *cobra.Command {
	status := &word{value: "pending", allowed: []string{"pending", "approved", "rejected", "expired", "cancelled", "all"}}
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List approvals, newest first", Args: arguments(),
		Example: "  fulcrum approval list\n  fulcrum approval list --status all -o json",
	}
	cmd.Flags().Var(status, "status", "only those: pending, approved, rejected, expired, cancelled, or all")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many; 0: all")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		want := upper(status.value)
		if want == "ALL" {
			want = ""
		}
		all, more, err := pages(o, cmd, limit, func(token string, size int32) ([]*policyv1.Approval, string, error) {
			resp, err := c.policies.ListApprovals(ctx, &policyv1.ListApprovalsRequest{Status: want, PageSize: size, PageToken: token})
			return resp.GetApprovals(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		if err := o.list(cmd, &policyv1.ListApprovalsResponse{Approvals: all, TotalCount: int32(len(all))}, approvalTable(all...), "nothing waits for you"); err != nil {
			return err
		}
		o.cut(cmd, more, len(all))
		if len(all) > 0 && want == "PENDING" {
			o.next(cmd, "fulcrum approval approve %s --note WHY", all[0].GetApprovalId())
		}
		return nil
	})
	return cmd
}

func approvalTable(all ...*policyv1.Approval) *terminal.Table {
	t := terminal.NewTable("ASKED", "STATUS", "ACTION", "ARGUMENTS", "POLICY", "ROLES", "EXPIRES", "REVIEWER", "ID")
	for _, a := range all {
		m := a.GetMetadata()
		state := a.GetStatus()
		if m["fulcrum.consumed"] == "true" {
			state += " (used)"
		}
		t.Row(when(a.GetCreatedAt()), state, m["action_name"], m["arguments"], a.GetPolicyName(), m["fulcrum.roles"], m["fulcrum.expires_at"], a.GetReviewerId(), a.GetApprovalId())
	}
	return t
}

func (o *operator) approvalAnswer(verb, status, short string) *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short, Args: arguments("ID"),
		Example: "  fulcrum approval " + verb + " 01a1fded-d2dc-7c3b-bc3a-81c406939299 --note \"order checked\"",
	}
	cmd.Flags().StringVar(&note, "note", "", "why, for the record")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		resp, err := c.policies.UpdateApproval(ctx, &policyv1.UpdateApprovalRequest{ApprovalId: args[0], Status: status, ReviewNote: note})
		if err != nil {
			return err
		}
		if err := o.list(cmd, resp.GetApproval(), approvalTable(resp.GetApproval()), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum approval list")
		return nil
	})
	return cmd
}
