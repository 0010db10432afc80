package cli

import (
	"context"

	"github.com/spf13/cobra"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) agentCommand() *cobra.Command {
	return o.remote(group("agent", "Register and list agents", "", o.agentCreate(), o.agentList()))
}

func (o *operator) agentCreate() *cobra.Command {
	var r agentv1.CreateAgentRequest
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Register an agent", Args: arguments("NAME"),
		Example: "  fulcrum agent create research-bot --team growth --model gpt-4o --environment production",
	}
	f := cmd.Flags()
	f.StringVar(&r.Team, "team", "", "the team that answers for it")
	f.StringVar(&r.Model, "model", "", "the model it runs on")
	f.StringVar(&r.Environment, "environment", "", "such as production or staging")
	f.StringVar(&r.Description, "description", "", "what it does")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		r.Name = args[0]
		resp, err := c.agents.CreateAgent(once(ctx), &r)
		if err != nil {
			return err
		}
		a := resp.GetAgent()
		if err := o.list(cmd, a, agentTable(a), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum key create --tenant %s --name %s --agent %s --scope envelope:read --scope envelope:write (as the platform's administrator)",
			a.GetTenantId(), a.GetName(), a.GetId())
		return nil
	})
	return cmd
}

func (o *operator) agentList() *cobra.Command {
	var r agentv1.ListAgentsRequest
	status := &word{allowed: []string{"active", "paused", "error", "deleted"}}
	cmd := &cobra.Command{
		Use: "list", Short: "List registered agents", Args: arguments(), Example: "  fulcrum agent list --team growth",
	}
	cmd.Flags().Var(status, "status", "only those: active, paused, error, deleted")
	cmd.Flags().StringVar(&r.Team, "team", "", "only of this team")
	cmd.Flags().StringVar(&r.Environment, "environment", "", "only in this environment")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*agentv1.Agent, string, error) {
			r.Status, r.PageSize, r.PageToken = status.value, size, token
			resp, err := c.agents.ListAgents(ctx, &r)
			return resp.GetAgents(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return o.list(cmd, &agentv1.ListAgentsResponse{Agents: all, TotalCount: int32(len(all))}, agentTable(all...),
			"no agents; register one with: fulcrum agent create NAME")
	})
	return cmd
}

func agentTable(all ...*agentv1.Agent) *terminal.Table {
	t := terminal.NewTable("NAME", "STATUS", "TEAM", "MODEL", "ENVIRONMENT", "CREATED", "ID")
	for _, a := range all {
		t.Row(a.GetName(), a.GetStatus(), a.GetTeam(), a.GetModel(), a.GetEnvironment(), when(a.GetCreatedAt()), a.GetId())
	}
	return t
}
