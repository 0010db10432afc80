package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policytemplate"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) policyExport() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "export [NAME|ID…]", Short: "Write policies and their tests as a signed bundle", Args: cobra.ArbitraryArgs,
		Long: `Write policies with their tests as a bundle that the server signs (Ed25519). Without
names it holds every policy that is not archived.`,
		Example: "  fulcrum policy export -f policies.bundle.json",
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to write (default: standard output)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		req := &lifecyclev1.ExportPoliciesRequest{}
		for _, named := range args {
			p, err := o.findPolicy(ctx, cmd, c, named)
			if err != nil {
				return err
			}
			req.PolicyIds = append(req.PolicyIds, p.GetPolicyId())
		}
		resp, err := c.lifecycle.ExportPolicies(ctx, req)
		if err != nil {
			return err
		}
		o.say(cmd, "%d policies, signed by %s", resp.GetPolicies(), resp.GetKeyName())
		if file == "" {
			_, err = cmd.OutOrStdout().Write(resp.GetBundle())
			return err
		}
		if err := os.WriteFile(filepath.Clean(file), resp.GetBundle(), 0o644); err != nil {
			return err
		}
		o.next(cmd, "fulcrum policy import -f %s --dry-run, where they are to go", file)
		return nil
	})
	return cmd
}

func (o *operator) policyImport() *cobra.Command {
	var file string
	var dry, older bool
	cmd := &cobra.Command{
		Use: "import -f FILE", Short: "Take over the policies of a signed bundle", Args: arguments(),
		Long: `Take over the policies of a bundle that a key has signed which the server trusts:
new ones as DRAFT, others as next versions beside the one in force. Nothing comes into
force. A bundle that was changed, is signed by somebody else or is older than what was
imported already is refused as a whole.`,
		Example: "  fulcrum policy import -f policies.bundle.json --dry-run",
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", `file to read, "-" for standard input (required)`)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only verify and show what would be done")
	cmd.Flags().BoolVar(&older, "allow-older", false, "although policies were imported from a later bundle already")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return usagef("%s needs -f FILE", cmd.CommandPath())
		}
		bundle, err := bundleOf(cmd, file)
		if err != nil {
			return usageError{err}
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.lifecycle.ImportPolicies(ctx, &lifecyclev1.ImportPoliciesRequest{Bundle: bundle, DryRun: dry, AllowOlder: older})
			if err != nil {
				return err
			}
			o.say(cmd, "signed by %s", resp.GetKeyName())
			t := terminal.NewTable("POLICY", "CHANGE", ">VERSION", "ID")
			for _, p := range resp.GetPolicies() {
				t.Row(p.GetName(), p.GetChange(), p.GetVersion(), p.GetPolicyId())
			}
			if err := o.list(cmd, resp, t, "the bundle is empty"); err != nil {
				return err
			}
			o.next(cmd, "fulcrum policy activate NAME")
			return nil
		})(cmd, args)
	}
	return cmd
}

const maxBundle = 16 << 20

func bundleOf(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxBundle))
	}
	return os.ReadFile(filepath.Clean(file))
}

func (o *operator) policyTemplate() *cobra.Command {
	return group("template", "Start from policies that most deployments want", `Start from a policy that most deployments want, with a few values of your own and
with tests that show what it does.`,
		o.templateList(), o.templateShow(), o.templateApply())
}

// template finds one by its name.
func template(name string) (policytemplate.Template, error) {
	all, err := policytemplate.All()
	if err != nil {
		return policytemplate.Template{}, err
	}
	return byName("template", name, all, func(t policytemplate.Template) string { return t.Name }, func(t policytemplate.Template) string { return t.Name })
}

func (o *operator) templateList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the templates", Args: arguments(), Example: "  fulcrum policy template list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := policytemplate.All()
			if err != nil {
				return err
			}
			t := terminal.NewTable("TEMPLATE", "WHAT IT DOES")
			doc := []map[string]any{}
			for _, x := range all {
				t.Row(x.Name, x.Title)
				doc = append(doc, map[string]any{"name": x.Name, "title": x.Title, "description": x.Description})
			}
			if err := o.document(cmd, map[string]any{"templates": doc}, t.Write); err != nil {
				return err
			}
			o.next(cmd, "fulcrum policy template show NAME")
			return nil
		},
	}
}

// values reads NAME=VALUE pairs.
func values(pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok {
			return nil, usagef("--set takes NAME=VALUE, not %q", p)
		}
		out[k] = v
	}
	return out, nil
}

func (o *operator) templateShow() *cobra.Command {
	var pairs []string
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a template's values and its policy as YAML", Args: arguments("NAME"),
		Example: "  fulcrum policy template show high-value-approval --set limit=500",
	}
	cmd.Flags().StringArrayVar(&pairs, "set", nil, "NAME=VALUE instead of a default; lists comma separated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, p, err := filled(args[0], pairs)
		if err != nil {
			return err
		}
		o.say(cmd, "%s", strings.TrimSpace(t.Description))
		for _, x := range t.Parameters {
			o.say(cmd, "  --set %s=%v  %s", x.Name, defaultText(x.Default), x.Description)
		}
		text, err := policyfile.YAML(p)
		if err != nil {
			return err
		}
		if o.json() {
			return terminal.JSON(cmd.OutOrStdout(), p)
		}
		if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
			return err
		}
		o.next(cmd, "fulcrum policy template apply %s", t.Name)
		return nil
	}
	return cmd
}

func defaultText(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	var parts []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ",")
}

func filled(name string, pairs []string) (policytemplate.Template, *policyv1.Policy, error) {
	t, err := template(name)
	if err != nil {
		return t, nil, err
	}
	set, err := values(pairs)
	if err != nil {
		return t, nil, err
	}
	p, err := t.Fill(set)
	if err != nil {
		return t, nil, usageError{err}
	}
	return t, p, nil
}

func (o *operator) templateApply() *cobra.Command {
	var pairs []string
	var name, dir string
	var activate bool
	cmd := &cobra.Command{
		Use: "apply NAME", Short: "Make a policy of a template", Args: arguments("NAME"),
		Long: `Make a policy of a template, with its tests: a DRAFT on the server, or in force with
--activate once its tests pass; or files in a folder with --dir.`,
		Example: "  fulcrum policy template apply cost-cap-per-request --set max_usd=0.5 --activate\n  fulcrum policy template apply tool-deny-list --dir policies",
	}
	cmd.Flags().StringArrayVar(&pairs, "set", nil, "NAME=VALUE instead of a default; lists comma separated")
	cmd.Flags().StringVar(&name, "name", "", "name of the policy, instead of the template's")
	cmd.Flags().StringVar(&dir, "dir", "", "write files into this folder instead")
	cmd.Flags().BoolVar(&activate, "activate", false, "put it into force")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, p, err := filled(args[0], pairs)
		if err != nil {
			return err
		}
		if name != "" {
			p.Name = name
		}
		if activate {
			p.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
		}
		if dir != "" {
			path, err := policyfile.Add(dir, p)
			if err != nil {
				return usageError{err}
			}
			o.say(cmd, "wrote %s", path)
			o.next(cmd, "fulcrum policy test %s", dir)
			return nil
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.policies.CreatePolicy(once(ctx), &policyv1.CreatePolicyRequest{Policy: p})
			if err != nil {
				return err
			}
			made := resp.GetPolicy()
			if err := o.list(cmd, made, policyTable(made), ""); err != nil {
				return err
			}
			if made.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ACTIVE {
				o.next(cmd, "fulcrum policy evaluate --tool NAME")
			} else {
				o.next(cmd, "fulcrum policy simulate %s", made.GetName())
			}
			return nil
		})(cmd, args)
	}
	return cmd
}
