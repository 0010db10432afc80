package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) policyCommand() *cobra.Command {
	return o.remote(group("policy", "Manage policies, one by one or as a folder of files", `Manage policies. One at a time: list, get, create, activate, deactivate, delete.
As code: pull a tenant's policies into a folder, review them like any source, then
lint, test, simulate, diff and push them. Before a version is in force: stage and
shadow it; after: history and rollback. evaluate asks what they would decide.`,
		o.policyList(), o.policyGet(), o.policyCreate(),
		o.policyActivate(),
		o.policyMove("deactivate", policyv1.PolicyStatus_POLICY_STATUS_INACTIVE, "Take policies out of force", "fulcrum policy list"),
		o.policyRollback(), o.policyHistory(), o.policyVersions(), o.policyStage(), o.policyDelete(),
		o.policyPull(), o.policyDiff(), o.policyPush(), o.policyTest(), o.policyLint(), o.policyFormat(), o.policySimulate(),
		o.policyShadow(), o.policyTemplate(), o.policyExport(), o.policyImport(), o.policyEvaluate()))
}

func (o *operator) policyList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List policies, highest priority first", Args: arguments(),
		Example: "  fulcrum policy list\n  fulcrum policy list --status active -o json",
	}
	status := enumFlag[policyv1.PolicyStatus](cmd, "status", "only those")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		all, err := o.livePolicies(ctx, cmd, c, status())
		if err != nil {
			return err
		}
		return o.list(cmd, &policyv1.ListPoliciesResponse{Policies: all, TotalCount: int32(len(all))}, policyTable(all...),
			"no policies; make one with: fulcrum policy create -f FILE")
	})
	return cmd
}

func (o *operator) livePolicies(ctx context.Context, cmd *cobra.Command, c *client, status policyv1.PolicyStatus) ([]*policyv1.Policy, error) {
	all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*policyv1.Policy, string, error) {
		resp, err := c.policies.ListPolicies(ctx, &policyv1.ListPoliciesRequest{Status: status, PageSize: size, PageToken: token})
		return resp.GetPolicies(), resp.GetNextPageToken(), err
	})
	return all, err
}

func policyTable(all ...*policyv1.Policy) *terminal.Table {
	t := terminal.NewTable("NAME", "STATUS", "ENFORCEMENT", ">PRIORITY", ">VERSION", "FORM", "ID")
	for _, p := range all {
		t.Row(p.GetName(), terminal.Word(p.GetStatus()), terminal.Word(p.GetEnforcement()), p.GetPriority(), p.GetVersion(), form(p), p.GetPolicyId())
	}
	return t
}

func form(p *policyv1.Policy) string {
	switch n := len(p.GetRules()); {
	case p.GetRego() != "":
		return "rego"
	case n == 1:
		return "1 rule"
	default:
		return fmt.Sprintf("%d rules", n)
	}
}

func (o *operator) policyGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME|ID", Short: "Show one policy as YAML", Args: arguments("NAME or ID"),
		Example: "  fulcrum policy get no-destructive-tools > no-destructive-tools.yaml",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			p, err := o.findPolicy(ctx, cmd, c, args[0])
			if err != nil {
				return err
			}
			return o.answer(cmd, p, func(out io.Writer, _ bool) error {
				text, err := policyfile.YAML(p)
				if err != nil {
					return err
				}
				if screen(out) {
					text = terminal.CleanLines(text)
				}
				_, err = io.WriteString(out, text)
				return err
			})
		}),
	}
}

// findPolicy is the policy of an id, or the only one of a name.
func (o *operator) findPolicy(ctx context.Context, cmd *cobra.Command, c *client, named string) (*policyv1.Policy, error) {
	if _, err := uuid.Parse(named); err == nil && len(named) == 36 {
		resp, err := c.policies.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: named})
		return resp.GetPolicy(), err
	}
	all, err := o.livePolicies(ctx, cmd, c, 0)
	if err != nil {
		return nil, err
	}
	return byName("policy", named, all, (*policyv1.Policy).GetName, (*policyv1.Policy).GetPolicyId)
}

// byName is the only one of a name. Several, or none, are the caller's to solve.
func byName[T any](kind, named string, all []T, name, id func(T) string) (T, error) {
	var none T
	found := slices.DeleteFunc(slices.Clone(all), func(x T) bool { return name(x) != named })
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		var names []string
		for _, x := range all {
			names = append(names, name(x))
		}
		return none, fault.New(fault.NotFound, "there is no %s called %q%s", kind, named, meant(named, names))
	}
	var ids []string
	for _, x := range found {
		ids = append(ids, id(x))
	}
	return none, usagef("%d are called %q; say which by its id: %s", len(found), named, strings.Join(ids, " "))
}

func (o *operator) policyCreate() *cobra.Command {
	var file, name string
	var activate bool
	cmd := &cobra.Command{
		Use: "create -f FILE", Short: "Make a policy of a file", Args: arguments(),
		Long: `Make a policy of a .yaml, .json or .rego file: fulcrum.policy.v1.Policy by the names
of its .proto. A .rego file beside a .yaml of the same name belongs to it; alone it
is a policy named after the file. "-" reads YAML or JSON from standard input.

It is a DRAFT, and decides nothing, unless the file or --activate says otherwise.`,
		Example: "  fulcrum policy create -f no-destructive-tools.yaml --activate\n  fulcrum policy create -f mail.rego",
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to read (required)")
	cmd.Flags().StringVar(&name, "name", "", "name, instead of the file's")
	cmd.Flags().BoolVar(&activate, "activate", false, "put it into force at once")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return usagef("%s needs -f FILE", cmd.CommandPath())
		}
		f, err := readPolicy(cmd, file)
		if err != nil {
			return usageError{err}
		}
		for _, w := range f.Warnings {
			o.say(cmd, "warning: %s: %s", f.Path, w)
		}
		if name != "" {
			f.Policy.Name = name
		}
		if activate {
			f.Policy.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.policies.CreatePolicy(once(ctx), &policyv1.CreatePolicyRequest{Policy: f.Policy})
			if err != nil {
				return err
			}
			p := resp.GetPolicy()
			if err := o.list(cmd, p, policyTable(p), ""); err != nil {
				return err
			}
			if p.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ACTIVE {
				o.next(cmd, "fulcrum policy evaluate --tool NAME")
			} else {
				o.next(cmd, "fulcrum policy activate %s", p.GetPolicyId())
			}
			return nil
		})(cmd, args)
	}
	return cmd
}

func readPolicy(cmd *cobra.Command, file string) (policyfile.File, error) {
	if file != "-" {
		return policyfile.Read(filepath.Clean(file))
	}
	text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20))
	if err != nil {
		return policyfile.File{}, err
	}
	return policyfile.Parse("standard input", string(text))
}

// policyMove puts policies into a status, each at the state it was seen in.
func (o *operator) policyMove(verb string, to policyv1.PolicyStatus, short, next string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME|ID…", Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs NAME or ID", cmd.CommandPath())
			}
			return nil
		},
		Example: "  fulcrum policy " + verb + " no-destructive-tools",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			var all []*policyv1.Policy
			for _, named := range args {
				p, err := o.findPolicy(ctx, cmd, c, named)
				if err != nil {
					return err
				}
				resp, err := c.policies.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{UpdateMask: []string{"status"},
					Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Etag: p.GetEtag(), Status: to}})
				if err != nil {
					return err
				}
				if p.GetStatus() == to {
					o.say(cmd, "%s was %s already", p.GetName(), terminal.Word(to))
				}
				all = append(all, resp.GetPolicy())
			}
			if err := o.list(cmd, &policyv1.PolicyList{Policies: all}, policyTable(all...), ""); err != nil {
				return err
			}
			o.next(cmd, "%s", next)
			return nil
		}),
	}
}

func (o *operator) policyDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME|ID", Short: "End a policy for good", Args: arguments("NAME or ID"),
		Long:    "End a policy for good. Its versions stay readable to the audit.",
		Example: "  fulcrum policy delete old-rules",
	}
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		p, err := o.findPolicy(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		if err := o.confirm(cmd, "Delete the policy %q (%s, version %d) for good?", p.GetName(), terminal.Word(p.GetStatus()), p.GetVersion()); err != nil {
			return err
		}
		resp, err := c.policies.DeletePolicy(ctx, &policyv1.DeletePolicyRequest{PolicyId: p.GetPolicyId()})
		if err != nil {
			return err
		}
		o.say(cmd, "deleted the policy %q", p.GetName())
		o.next(cmd, "fulcrum policy list")
		return o.changed(cmd, resp)
	})
	return o.confirmed(cmd)
}
