package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) priceCommand() *cobra.Command {
	return o.remote(group("price", "See and set what models cost, and correct what they have cost", "",
		o.priceList(), o.priceGet(), o.priceImport(), o.priceExport(), o.priceVersions(), o.priceEnd(), o.priceRerate()))
}

func (o *operator) priceList() *cobra.Command {
	var all bool
	var at moment
	cmd := &cobra.Command{
		Use: "list [BEGINNING]", Short: "List prices in force, in USD per million tokens", Args: cobra.MaximumNArgs(1),
		Example: "  fulcrum price list\n  fulcrum price list claude --all\n  fulcrum price list --at 2026-01-31 -o json",
	}
	cmd.Flags().BoolVar(&all, "all", false, "the shipped prices too, not only those of your own")
	cmd.Flags().Var(&at, "at", "in force then (default now)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		resp, err := o.pricesInForce(ctx, cmd, c, &pricingv1.ListPricesRequest{ModelPrefix: strings.Join(args, ""), OwnOnly: !all, At: at.stamp()})
		if err != nil {
			return err
		}
		return o.list(cmd, resp, priceTable(resp.GetPrices()...),
			"no prices of your own: "+resp.GetShippedVersion()+" holds; see it with: fulcrum price list --all")
	})
	return cmd
}

// pricesInForce reads a list of prices whole.
func (o *operator) pricesInForce(ctx context.Context, cmd *cobra.Command, c *client, req *pricingv1.ListPricesRequest) (*pricingv1.ListPricesResponse, error) {
	whole := &pricingv1.ListPricesResponse{}
	var err error
	whole.Prices, _, err = pages(o, cmd, 0, func(token string, size int32) ([]*pricingv1.Price, string, error) {
		req.PageToken, req.PageSize = token, size
		resp, err := c.prices.ListPrices(ctx, req)
		whole.ShippedVersion = resp.GetShippedVersion()
		return resp.GetPrices(), resp.GetNextPageToken(), err
	})
	return whole, err
}

func (o *operator) priceGet() *cobra.Command {
	var at moment
	cmd := &cobra.Command{
		Use: "get MODEL", Short: "Show what a call of a model is priced by", Args: arguments("MODEL"),
		Example: "  fulcrum price get gpt-4o\n  fulcrum price get openai/gpt-4o-2024-08-06 --at 2026-01-31",
	}
	cmd.Flags().Var(&at, "at", "in force then (default now)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		resp, err := c.prices.GetPrice(ctx, &pricingv1.GetPriceRequest{Model: args[0], At: at.stamp()})
		if err != nil {
			return err
		}
		if resp.GetFallback() {
			o.say(cmd, "nobody has a price for %q: your fallback for %q holds", args[0], resp.GetPrice().GetModel())
		}
		return o.list(cmd, resp, priceTable(resp.GetPrice()), "")
	})
	return cmd
}

// priceTable shows each price in a row, and each of its tiers in one below.
func priceTable(all ...*pricingv1.Price) *terminal.Table {
	t := terminal.NewTable("MODEL", ">INPUT", ">OUTPUT", ">CACHED", ">CACHE WRITE", ">REASONING", ">PER CALL", "FROM", "VERSION")
	row := func(name string, r *pricingv1.Rates, from, version string) {
		t.Row(name, rate(r.GetInputNano()), rate(r.GetOutputNano()), rate(r.GetCachedInputNano()), rate(r.GetCacheWriteNano()),
			rate(r.GetReasoningNano()), rate(r.GetPerCallNano()), from, version)
	}
	for _, p := range all {
		from := "always"
		if f := p.GetEffectiveFrom(); f != nil && f.GetSeconds() > 0 {
			from = when(f)
		}
		if p.GetEnded() {
			t.Row(p.GetModel(), "ended", "", "", "", "", "", from, p.GetVersion())
			continue
		}
		row(p.GetModel(), p.GetRates(), from, p.GetVersion())
		for _, tier := range p.GetTiers() {
			row("  above "+count(tier.GetAboveInputTokens())+" input tokens", tier.GetRates(), "", "")
		}
	}
	return t
}

// rate is dollars in a table, empty where another rate stands in.
func rate(nano int64) string {
	if nano == 0 {
		return ""
	}
	return money.Nano(nano).String()
}

func (o *operator) priceVersions() *cobra.Command {
	return &cobra.Command{
		Use: "versions", Short: "List the versions of your price list, latest first", Args: arguments(), Example: "  fulcrum price versions",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			whole := &pricingv1.ListPriceVersionsResponse{}
			var err error
			whole.Versions, _, err = pages(o, cmd, 0, func(token string, size int32) ([]*pricingv1.PriceVersion, string, error) {
				resp, err := c.prices.ListPriceVersions(ctx, &pricingv1.ListPriceVersionsRequest{PageToken: token, PageSize: size})
				whole.Etag = resp.GetEtag()
				return resp.GetVersions(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			t := terminal.NewTable("VERSION", ">PRICES", "CREATED", "BY", "NOTE")
			for _, v := range whole.GetVersions() {
				t.Row(v.GetVersion(), count(v.GetPrices()), when(v.GetCreatedAt()), v.GetCreatedBy(), v.GetNote())
			}
			return o.list(cmd, whole, t, "no prices of your own; import some with: fulcrum price import FILE")
		}),
	}
}

func (o *operator) priceEnd() *cobra.Command {
	var at moment
	cmd := &cobra.Command{
		Use: "end MODEL", Short: "End your own price of a model: the shipped one holds again, or none", Args: arguments("MODEL"),
		Example: "  fulcrum price end gpt-4o\n  fulcrum price end '*' --at 2026-12-31",
	}
	cmd.Flags().Var(&at, "at", "from then on (default now)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		if err := o.confirm(cmd, "End your own price of %q? Where nothing is shipped, calls of it are refused from then on.", args[0]); err != nil {
			return err
		}
		resp, err := c.prices.EndPrice(once(ctx), &pricingv1.EndPriceRequest{Model: args[0], EffectiveAt: at.stamp()})
		if err != nil {
			return err
		}
		o.say(cmd, "ended your price of %q with version %s", args[0], resp.GetVersion().GetVersion())
		o.next(cmd, "fulcrum price get %s", args[0])
		return o.changed(cmd, resp)
	})
	return o.confirmed(cmd)
}

func (o *operator) priceRerate() *cobra.Command {
	var from, until moment
	var apply bool
	req := &pricingv1.RerateRequest{}
	cmd := &cobra.Command{
		Use: "rerate", Short: "Price the charges of a period anew, and correct them if asked to", Args: arguments(),
		Long: `Price the charges of a period by the prices that are now in force for it, and report the differences.
With --apply they are corrected: budgets and summaries follow, and the report is kept. Doing it again corrects nothing more.
Costs that callers stated themselves, and charges of what was held, are left alone.`,
		Example: `  fulcrum price rerate --from 2026-11-01 --until 2026-12-01
  fulcrum price rerate --from 2026-11-01 --until 2026-12-01 --model gpt-4o --apply
  fulcrum price rerate --from 7d --until 0s --version shipped`,
	}
	f := cmd.Flags()
	f.Var(&from, "from", "charges made from then on")
	f.Var(&until, "until", "charges made before then")
	f.StringVar(&req.Model, "model", "", "only of this model, as it was charged")
	f.StringVar(&req.PriceVersion, "version", "", "by your lists up to this version, such as tenant-7, or by the shipped one: shipped (default as they are now)")
	f.BoolVar(&apply, "apply", false, "correct the charges")
	f.StringVar(&req.IdempotencyKey, "key", "", "name of this re-rating, to finish one that was interrupted (default a new one)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req.From, req.Until, req.Apply = from.stamp(), until.stamp(), apply
		if req.GetFrom() == nil || req.GetUntil() == nil {
			return usagef("%s needs --from and --until", cmd.CommandPath())
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			return o.rerate(ctx, cmd, c, req)
		})(cmd, args)
	}
	return o.confirmed(cmd)
}

func (o *operator) rerate(ctx context.Context, cmd *cobra.Command, c *client, req *pricingv1.RerateRequest) error {
	if req.GetApply() {
		if err := o.confirm(cmd, "Correct the charges from %s to %s?", when(req.GetFrom()), when(req.GetUntil())); err != nil {
			return err
		}
		if req.GetIdempotencyKey() == "" {
			req.IdempotencyKey = newKey()
		}
	}
	resp, err := c.prices.Rerate(ctx, req)
	if err != nil {
		if req.GetApply() {
			o.say(cmd, "if it was interrupted, the same command with --key %s finishes it", req.GetIdempotencyKey())
		}
		return err
	}
	r := resp.GetReport()
	t := terminal.NewTable("MODEL", "BUDGET", ">CHARGES", ">OLD", ">NEW", ">DIFFERENCE")
	row := func(l *pricingv1.RerateLine, model, budget string) {
		t.Row(model, budget, count(l.GetCharges()), money.Nano(l.GetOldNano()).String(), money.Nano(l.GetNewNano()).String(), money.Nano(l.GetDifferenceNano()).String())
	}
	for _, l := range r.GetByModel() {
		row(l, l.GetModel(), "")
	}
	for _, l := range r.GetByBudget() {
		name := l.GetBudgetName()
		if name == "" {
			name = l.GetBudgetId()
		}
		row(l, l.GetModel(), name)
	}
	row(r.GetTotal(), "total", "")
	if err := o.answer(cmd, resp, func(out io.Writer, color bool) error { return t.Write(out, color) }); err != nil {
		return err
	}
	o.say(cmd, "%s charges cost the same, %s are left alone (stated by the caller, or as held), %s have no price", count(r.GetUnchanged()), count(r.GetLeftAlone()), count(r.GetUnpriced()))
	switch {
	case r.GetApplied():
		o.say(cmd, "corrected, as %s", r.GetRerateId())
	case r.GetTotal().GetCharges() > 0:
		o.next(cmd, "the same with --apply corrects them")
	}
	return nil
}
