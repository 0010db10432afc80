package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) policyActivate() *cobra.Command {
	var version int64
	var reason string
	var coverage float64
	cmd := &cobra.Command{
		Use: "activate NAME|ID…", Short: "Put policies into force, once their tests pass",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("%s needs NAME or ID", cmd.CommandPath())
			case len(args) > 1 && version != 0:
				return usagef("--version is of one policy")
			}
			return nil
		},
		Example: "  fulcrum policy activate no-destructive-tools\n  fulcrum policy activate refunds --version 4 --reason \"reviewed by dana\"",
	}
	cmd.Flags().Int64Var(&version, "version", 0, "a stored version (default: the one that policy get shows)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	cmd.Flags().Float64Var(&coverage, "min-coverage", 0, "percent of the policy that its tests must reach")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		var all []*policyv1.Policy
		for _, named := range args {
			p, err := o.findPolicy(ctx, cmd, c, named)
			if err != nil {
				return err
			}
			resp, err := c.lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{
				PolicyId: p.GetPolicyId(), Version: version, Etag: p.GetEtag(), Reason: reason, MinCoveragePercent: coverage,
			})
			if err != nil {
				return err
			}
			if resp.GetPolicySetVersion() == 0 {
				o.say(cmd, "%s was ACTIVE already", p.GetName())
			} else {
				o.say(cmd, "in force from policy set %d on; %d tests passed", resp.GetPolicySetVersion(), len(resp.GetTests().GetResults()))
			}
			all = append(all, resp.GetPolicy())
		}
		if err := o.list(cmd, &policyv1.PolicyList{Policies: all}, policyTable(all...), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum policy evaluate --tool NAME")
		return nil
	})
	return cmd
}

func (o *operator) policyRollback() *cobra.Command {
	var to int64
	var reason string
	cmd := &cobra.Command{
		Use: "rollback NAME|ID", Short: "Put a former version of a policy back into force", Args: arguments("NAME or ID"),
		Long: `Put a version back into force that was before: the last other one, or --to. The
pointer moves and no version is made, so tests do not stand in the way.`,
		Example: "  fulcrum policy rollback refunds --reason \"it denied everything\"",
	}
	cmd.Flags().Int64Var(&to, "to", 0, "a version that was in force before (default: the last other one)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		p, err := o.findPolicy(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		resp, err := c.lifecycle.RollBackPolicy(ctx, &lifecyclev1.RollBackPolicyRequest{
			PolicyId: p.GetPolicyId(), Version: to, Etag: p.GetEtag(), Reason: reason,
		})
		if err != nil {
			return err
		}
		if resp.GetPolicySetVersion() == 0 {
			o.say(cmd, "version %d of %s was in force already", resp.GetPolicy().GetVersion(), p.GetName())
		} else {
			o.say(cmd, "%s is back at version %d, in force from policy set %d on", p.GetName(), resp.GetPolicy().GetVersion(), resp.GetPolicySetVersion())
		}
		if err := o.list(cmd, resp, policyTable(resp.GetPolicy()), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum policy history %s", p.GetName())
		return nil
	})
	return cmd
}

func (o *operator) policyHistory() *cobra.Command {
	return &cobra.Command{
		Use: "history NAME|ID", Short: "Show which version of a policy was in force when, and why", Args: arguments("NAME or ID"),
		Example: "  fulcrum policy history refunds",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			p, err := o.findPolicy(ctx, cmd, c, args[0])
			if err != nil {
				return err
			}
			all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*lifecyclev1.PolicyActivation, string, error) {
				resp, err := c.lifecycle.ListPolicyActivations(ctx, &lifecyclev1.ListPolicyActivationsRequest{PolicyId: p.GetPolicyId(), PageSize: size, PageToken: token})
				return resp.GetActivations(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			t := terminal.NewTable("AT", "DONE", ">VERSION", ">BEFORE", "BY", ">TESTS", ">POLICY SET", "REASON")
			for _, a := range all {
				before := any(a.GetFromVersion())
				if a.GetFromVersion() == 0 {
					before = ""
				}
				t.Row(when(a.GetAt()), a.GetAction(), a.GetVersion(), before, a.GetActor(), a.GetTestsPassed(), a.GetPolicySetVersion(), a.GetReason())
			}
			return o.list(cmd, &lifecyclev1.ListPolicyActivationsResponse{Activations: all}, t, p.GetName()+" was never in force")
		}),
	}
}

func (o *operator) policyVersions() *cobra.Command {
	return &cobra.Command{
		Use: "versions NAME|ID", Short: "List the versions of a policy", Args: arguments("NAME or ID"),
		Example: "  fulcrum policy versions refunds",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			p, err := o.findPolicy(ctx, cmd, c, args[0])
			if err != nil {
				return err
			}
			all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*lifecyclev1.PolicyVersion, string, error) {
				resp, err := c.lifecycle.ListPolicyVersions(ctx, &lifecyclev1.ListPolicyVersionsRequest{PolicyId: p.GetPolicyId(), PageSize: min(size, 100), PageToken: token})
				return resp.GetVersions(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			t := terminal.NewTable(">VERSION", "STATE", "FORM", ">TESTS", "BY", "AT")
			for _, v := range all {
				state := ""
				if v.GetCurrent() {
					state = terminal.Word(v.GetPolicy().GetStatus())
				}
				t.Row(v.GetPolicy().GetVersion(), state, form(v.GetPolicy()), len(v.GetPolicy().GetTests()), v.GetCreatedBy(), when(v.GetCreatedAt()))
			}
			return o.list(cmd, &lifecyclev1.ListPolicyVersionsResponse{Versions: all}, t, "no versions")
		}),
	}
}

func (o *operator) policyStage() *cobra.Command {
	return &cobra.Command{
		Use: "stage FILE", Short: "Store a file as the next version of its policy, beside the one in force", Args: arguments("FILE"),
		Long: `Store a file as the next version of the policy of its name or policy_id. What is in
force stays: try the version with simulate and shadow, then activate it.`,
		Example: "  fulcrum policy stage policies/refunds.yaml",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			files, err := o.policiesAt(cmd, args[0])
			if err != nil {
				return err
			}
			if len(files) != 1 {
				return usagef("%s is no policy file", args[0])
			}
			want := files[0].Policy
			named := want.GetPolicyId()
			if named == "" {
				named = want.GetName()
			}
			p, err := o.findPolicy(ctx, cmd, c, named)
			if err != nil {
				return err
			}
			want.PolicyId, want.Etag, want.Status = p.GetPolicyId(), p.GetEtag(), 0
			resp, err := c.lifecycle.CreatePolicyVersion(ctx, &lifecyclev1.CreatePolicyVersionRequest{Policy: want, UpdateMask: []string{"*"}})
			if err != nil {
				return err
			}
			v := resp.GetVersion()
			if v == nil {
				return errors.New("the server answered without a version")
			}
			t := terminal.NewTable("NAME", ">VERSION", "FORM", ">TESTS")
			t.Row(v.GetPolicy().GetName(), v.GetPolicy().GetVersion(), form(v.GetPolicy()), len(v.GetPolicy().GetTests()))
			if err := o.list(cmd, resp, t, ""); err != nil {
				return err
			}
			o.next(cmd, "fulcrum policy shadow start %s --percent 10", p.GetName())
			return nil
		}),
	}
}
