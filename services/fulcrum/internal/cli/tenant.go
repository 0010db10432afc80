package cli

import (
	"context"

	"github.com/spf13/cobra"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) tenantCommand() *cobra.Command {
	return o.remote(group("tenant", "Make and list tenants, as the platform's administrator",
		"Make and list tenants. The key must be the platform's admin key (FULCRUM_ADMIN_KEY of the deployment;\nfulcrum up keeps it in keys.json as admin_key).",
		o.tenantCreate(), o.tenantList()))
}

func (o *operator) tenantCreate() *cobra.Command {
	var zone string
	var failOpen bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a tenant", Args: arguments("NAME"),
		Example: "  fulcrum tenant create acme\n  fulcrum tenant create acme --time-zone Europe/Berlin --default-decision deny",
	}
	decision := enumFlag[governancev1.Decision](cmd, "default-decision", "what no matching rule means (default allow)")
	cmd.Flags().StringVar(&zone, "time-zone", "", "IANA zone by which budgets begin anew (default UTC)")
	cmd.Flags().BoolVar(&failOpen, "fail-open", false, "an error of the policy engine allows instead of denying")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		resp, err := c.admin.CreateTenant(once(ctx), &controlplanev1.CreateTenantRequest{Name: args[0],
			Settings: &configv1.TenantSettings{DefaultDecision: decision(), TimeZone: zone, FailOpen: failOpen}})
		if err != nil {
			return err
		}
		t := resp.GetTenant()
		if err := o.list(cmd, t, tenantTable(t), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum key create --tenant %s --name operator --scope '*' --save operator.key", t.GetTenantId())
		return nil
	})
	return cmd
}

func (o *operator) tenantList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all tenants", Args: arguments(), Example: "  fulcrum tenant list",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*controlplanev1.Tenant, string, error) {
				resp, err := c.admin.ListTenants(ctx, &controlplanev1.ListTenantsRequest{PageSize: size, PageToken: token})
				return resp.GetTenants(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return o.list(cmd, &controlplanev1.ListTenantsResponse{Tenants: all}, tenantTable(all...), "no tenants; make one with: fulcrum tenant create NAME")
		}),
	}
}

func tenantTable(all ...*controlplanev1.Tenant) *terminal.Table {
	t := terminal.NewTable("NAME", "STATUS", "DEFAULT", "TIME ZONE", "CREATED", "ID")
	for _, x := range all {
		s := x.GetSettings()
		byDefault := terminal.Word(s.GetDefaultDecision())
		if byDefault == "" {
			byDefault = "ALLOW"
		}
		zone := s.GetTimeZone()
		if zone == "" {
			zone = "UTC"
		}
		t.Row(x.GetName(), terminal.Word(x.GetStatus()), byDefault, zone, when(x.GetCreatedAt()), x.GetTenantId())
	}
	return t
}
