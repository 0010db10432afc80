package cli

import (
	"context"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) budgetCommand() *cobra.Command {
	return o.remote(group("budget", "Manage budgets and see what is left", "",
		o.budgetList(), o.budgetGet(), o.budgetStatus(), o.budgetCreate(), o.budgetOverride(), o.budgetDelete()))
}

func (o *operator) budgetList() *cobra.Command {
	var workflow string
	cmd := &cobra.Command{
		Use: "list", Short: "List budgets", Args: arguments(), Example: "  fulcrum budget list\n  fulcrum budget list --status exceeded",
	}
	status := enumFlag[costv1.BudgetStatusType](cmd, "status", "only those that stand like this")
	cmd.Flags().StringVar(&workflow, "workflow", "", "only of this workflow")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		all, err := o.liveBudgets(ctx, cmd, c, &costv1.ListBudgetsRequest{Status: status(), WorkflowId: workflow})
		if err != nil {
			return err
		}
		none := "no budgets; make one with: fulcrum budget create NAME --cost 100 --period monthly"
		if status() != 0 || workflow != "" {
			none = "no such budgets"
		}
		return o.list(cmd, &costv1.ListBudgetsResponse{Budgets: all, TotalCount: int32(len(all))}, budgetTable(all...), none)
	})
	return cmd
}

// liveBudgets are all that a request selects.
func (o *operator) liveBudgets(ctx context.Context, cmd *cobra.Command, c *client, req *costv1.ListBudgetsRequest) ([]*costv1.Budget, error) {
	all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*costv1.Budget, string, error) {
		req.PageSize, req.PageToken = size, token
		resp, err := c.costs.ListBudgets(ctx, req)
		return resp.GetBudgets(), resp.GetNextPageToken(), err
	})
	return all, err
}

func budgetTable(all ...*costv1.Budget) *terminal.Table {
	t := terminal.NewTable("NAME", "PERIOD", "MODE", "LIMITS", "SCOPE", "ID")
	for _, b := range all {
		var limits []string
		for _, l := range measures(b.GetLimits()) {
			limits = append(limits, l.show(l.of(b.GetLimits()))+" "+l.name)
		}
		mode := terminal.Word(b.GetMode())
		if b.GetSuspended() {
			mode += " (suspended)"
		}
		t.Row(b.GetName(), period(b.GetPeriod()), mode, strings.Join(limits, ", "), scopeOf(b), b.GetBudgetId())
	}
	return t
}

func period(p *costv1.BudgetPeriod) string {
	word := terminal.Word(p.GetPeriodType())
	if s := p.GetDurationSeconds(); s > 0 {
		word += " " + count(s) + " s"
	}
	return word
}

func scopeOf(b *costv1.Budget) string {
	s := b.GetScope()
	facts := map[string]string{"team": s.GetTeam(), "agent": s.GetAgentId(), "user": s.GetUserId(), "workflow": s.GetWorkflowId(),
		"key": s.GetApiKeyId(), "model": s.GetModel(), "envelope": s.GetEnvelopeId()}
	for k, v := range facts {
		if v == "" {
			delete(facts, k)
		}
	}
	if len(facts) == 0 {
		return "tenant"
	}
	return sorted(facts)
}

// measure is one thing that a budget may limit.
type measure struct {
	name  string
	of    func(*costv1.BudgetLimits) float64
	spent func(*costv1.SpendSummary) float64
}

func (m measure) show(v float64) string {
	if m.name == "cost" {
		return usd(v)
	}
	return count(int64(v))
}

// measures are those that l limits.
func measures(l *costv1.BudgetLimits) (set []measure) {
	for _, m := range []measure{
		{"cost", (*costv1.BudgetLimits).GetMaxCostUsd, (*costv1.SpendSummary).GetTotalCostUsd},
		{"tokens", whole((*costv1.BudgetLimits).GetMaxTokens), whole((*costv1.SpendSummary).GetTotalTokens)},
		{"input tokens", whole((*costv1.BudgetLimits).GetMaxInputTokens), whole((*costv1.SpendSummary).GetTotalInputTokens)},
		{"output tokens", whole((*costv1.BudgetLimits).GetMaxOutputTokens), whole((*costv1.SpendSummary).GetTotalOutputTokens)},
		{"model calls", whole((*costv1.BudgetLimits).GetMaxLlmCalls), whole((*costv1.SpendSummary).GetTotalLlmCalls)},
		{"tool calls", whole((*costv1.BudgetLimits).GetMaxToolCalls), whole((*costv1.SpendSummary).GetTotalToolCalls)},
		{"seconds", whole((*costv1.BudgetLimits).GetMaxExecutionTimeSeconds), whole((*costv1.SpendSummary).GetTotalExecutionTimeSeconds)},
	} {
		if m.of(l) > 0 {
			set = append(set, m)
		}
	}
	return set
}

func whole[M any, N ~int32 | ~int64](get func(M) N) func(M) float64 {
	return func(m M) float64 { return float64(get(m)) }
}

func (o *operator) findBudget(ctx context.Context, cmd *cobra.Command, c *client, named string) (*costv1.Budget, error) {
	if _, err := uuid.Parse(named); err != nil || len(named) != 36 {
		all, err := o.liveBudgets(ctx, cmd, c, &costv1.ListBudgetsRequest{})
		if err != nil {
			return nil, err
		}
		b, err := byName("budget", named, all, (*costv1.Budget).GetName, (*costv1.Budget).GetBudgetId)
		if err != nil {
			return nil, err
		}
		named = b.GetBudgetId()
	}
	resp, err := c.costs.GetBudget(ctx, &costv1.GetBudgetRequest{BudgetId: named})
	return resp.GetBudget(), err
}

func (o *operator) budgetGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME|ID", Short: "Show one budget as YAML", Args: arguments("NAME or ID"), Example: "  fulcrum budget get acme",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			b, err := o.findBudget(ctx, cmd, c, args[0])
			if err != nil {
				return err
			}
			return o.answer(cmd, b, func(out io.Writer, _ bool) error {
				text, err := policyfile.YAML(b)
				if err != nil {
					return err
				}
				_, err = io.WriteString(out, terminal.CleanLines(text))
				return err
			})
		}),
	}
}

func (o *operator) budgetCreate() *cobra.Command {
	b := &costv1.Budget{Limits: &costv1.BudgetLimits{}, Scope: &costv1.BudgetScope{}, Period: &costv1.BudgetPeriod{}}
	var file string
	var every length
	var wallet string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a budget", Args: cobra.MaximumNArgs(1),
		Example: `  fulcrum budget create growth --team growth --cost 50 --period monthly
  fulcrum budget create crawl --workflow crawl --tool-calls 1000 --period daily --mode soft
  fulcrum budget create -f budget.yaml`,
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "YAML or JSON of fulcrum.cost.v1.Budget, instead of flags")
	f.Float64Var(&b.Limits.MaxCostUsd, "cost", 0, "limit in USD")
	f.Int64Var(&b.Limits.MaxTokens, "tokens", 0, "limit of tokens, input and output together")
	f.Int64Var(&b.Limits.MaxInputTokens, "input-tokens", 0, "limit of input tokens")
	f.Int64Var(&b.Limits.MaxOutputTokens, "output-tokens", 0, "limit of output tokens")
	f.Int32Var(&b.Limits.MaxLlmCalls, "model-calls", 0, "limit of model calls")
	f.Int32Var(&b.Limits.MaxToolCalls, "tool-calls", 0, "limit of tool calls")
	f.Int64Var(&b.Limits.MaxExecutionTimeSeconds, "seconds", 0, "limit of execution time")
	kind := enumFlag[costv1.BudgetPeriodType](cmd, "period", "when it begins anew (default monthly)")
	f.Var(&every, "every", "length of a custom period, such as 12h")
	mode := enumFlag[costv1.BudgetMode](cmd, "mode", "what happens over the limit (default hard)")
	f.StringVar(&b.Scope.Team, "team", "", "only this team's use")
	f.StringVar(&b.Scope.AgentId, "agent", "", "only this agent's use")
	f.StringVar(&b.Scope.UserId, "user", "", "only this user's use")
	f.StringVar(&b.Scope.WorkflowId, "workflow", "", "only this workflow's use")
	f.StringVar(&b.Scope.ApiKeyId, "key-id", "", "only this API key's use (its id, not the key)")
	f.StringVar(&b.Scope.Model, "model", "", "only this model's use")
	f.StringVar(&b.Scope.EnvelopeId, "envelope", "", "only this envelope's use, and its descendants'")
	f.StringVar(&wallet, "wallet", "", "name or id of the wallet that pays")
	f.StringVar(&b.TimeZone, "time-zone", "", "IANA zone by which it begins anew (default the tenant's)")
	f.StringVar(&b.Description, "description", "", "what it is for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		want, err := wantedBudget(cmd, b, file, args, kind(), mode(), every)
		if err != nil {
			return err
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			if wallet != "" {
				w, err := o.findWallet(ctx, c, wallet)
				if err != nil {
					return err
				}
				want.WalletId = w.GetWalletId()
			}
			resp, err := c.costs.CreateBudget(once(ctx), &costv1.CreateBudgetRequest{Budget: want})
			if err != nil {
				return err
			}
			if err := o.list(cmd, resp.GetBudget(), budgetTable(resp.GetBudget()), ""); err != nil {
				return err
			}
			o.next(cmd, "fulcrum budget status %s", resp.GetBudget().GetBudgetId())
			return nil
		})(cmd, args)
	}
	return cmd
}

func wantedBudget(cmd *cobra.Command, b *costv1.Budget, file string, args []string, kind costv1.BudgetPeriodType, mode costv1.BudgetMode, every length) (*costv1.Budget, error) {
	if file != "" {
		text, err := readAll(cmd, file)
		if err != nil {
			return nil, err
		}
		_, raw, err := policyfile.Document(text)
		if err != nil {
			return nil, usagef("%s: %w", file, err)
		}
		b = new(costv1.Budget)
		if err := protojson.Unmarshal(raw, b); err != nil {
			return nil, usagef("%s: %w", file, err)
		}
		if len(args) == 1 {
			b.Name = args[0]
		}
		return b, nil
	}
	if len(args) == 0 {
		return nil, usagef("%s needs NAME, or -f FILE", cmd.CommandPath())
	}
	b.Name, b.Mode, b.Period.PeriodType, b.Period.DurationSeconds = args[0], mode, kind, int64(every.d.Seconds())
	switch {
	case kind != 0:
	case every.d > 0:
		b.Period.PeriodType = costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_CUSTOM
	default:
		b.Period.PeriodType = costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_MONTHLY
	}
	if len(measures(b.GetLimits())) == 0 {
		return nil, usagef("a budget needs a limit, such as --cost 100")
	}
	return b, nil
}

func (o *operator) budgetDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME|ID", Short: "End a budget; its ledger stays", Args: arguments("NAME or ID"), Example: "  fulcrum budget delete old",
	}
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		b, err := o.findBudget(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		if err := o.confirm(cmd, "Delete the budget %q? Nothing limits what it limited from then on.", b.GetName()); err != nil {
			return err
		}
		resp, err := c.costs.DeleteBudget(ctx, &costv1.DeleteBudgetRequest{BudgetId: b.GetBudgetId()})
		if err != nil {
			return err
		}
		o.say(cmd, "deleted the budget %q", b.GetName())
		o.next(cmd, "fulcrum budget list")
		return o.changed(cmd, resp)
	})
	return o.confirmed(cmd)
}
