package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// maxPriceFile is larger than any list that is accepted.
const maxPriceFile = 4 << 20

func newKey() string { return uuid.Must(uuid.NewV7()).String() }

func (o *operator) priceImport() *cobra.Command {
	var dry bool
	var note string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Add prices of your own from a CSV, YAML or JSON file", Args: arguments("FILE"),
		Long: `Add prices of your own, as one new version of your list. Amounts are USD per million tokens; per_call is USD.

The first line of a CSV names its columns: model, effective_from, above_input_tokens, input, output, cached_input, cache_write,
reasoning, per_call, ended. Only model is needed, and a rate. A row with above_input_tokens is a tier: it holds for the whole call
when its input is longer. YAML and JSON have the same names in a list called prices, with a list of tiers in each.

Without effective_from a price holds from now on. A model "house-*" is the fallback for models that begin so and have no price, "*"
for all. Without a cached_input or cache_write such tokens cost as input, without a reasoning as output. What is not in the file stays.`,
		Example: "  fulcrum price import prices.csv --dry-run\n  fulcrum price import prices.yaml --note 'contract of 2026'",
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would change, and change nothing")
	cmd.Flags().StringVar(&note, "note", "", "why, for the list of versions")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		prices, err := readPrices(args[0])
		if err != nil {
			return err
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.prices.ImportPrices(once(ctx), &pricingv1.ImportPricesRequest{Prices: prices, Note: note, DryRun: dry})
			if err != nil {
				return err
			}
			if err := o.answer(cmd, resp, changeTable(resp.GetChanges()).Write); err != nil {
				return err
			}
			switch n := len(resp.GetChanges()); {
			case dry:
				o.say(cmd, "%d would change, %d are there already; nothing was changed", n, resp.GetUnchanged())
			case n == 0:
				o.say(cmd, "nothing changed: %d prices are there already", resp.GetUnchanged())
			default:
				o.say(cmd, "%d changed with version %s, %d were there already", n, resp.GetVersion().GetVersion(), resp.GetUnchanged())
				o.next(cmd, "fulcrum price list")
			}
			return nil
		})(cmd, args)
	}
	return cmd
}

func readPrices(file string) ([]*pricingv1.Price, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPriceFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPriceFile {
		return nil, usagef("%s: is larger than %d MB", file, maxPriceFile>>20)
	}
	list, err := pricelist.Parse(file, text)
	if err != nil {
		return nil, usagef("%s: %w", file, err)
	}
	if len(list) == 0 {
		return nil, usagef("%s: has no prices", file)
	}
	prices := make([]*pricingv1.Price, len(list))
	for i, e := range list {
		prices[i] = pricelist.Wire(e)
	}
	return prices, nil
}

// changeTable shows what is put in the place of what.
func changeTable(all []*pricingv1.PriceChange) *terminal.Table {
	t := terminal.NewTable("", "MODEL", ">INPUT", ">OUTPUT", ">WAS INPUT", ">WAS OUTPUT", "FROM")
	for _, c := range all {
		sign, r, was := "+", c.GetPrice().GetRates(), c.GetBefore().GetRates()
		if was != nil {
			sign = "~"
		}
		if c.GetPrice().GetEnded() {
			sign = "-"
		}
		t.Row(sign, c.GetPrice().GetModel(), rate(r.GetInputNano()), rate(r.GetOutputNano()), rate(was.GetInputNano()), rate(was.GetOutputNano()),
			when(c.GetPrice().GetEffectiveFrom()))
	}
	return t
}

func (o *operator) priceExport() *cobra.Command {
	var all bool
	var version string
	var at moment
	form := &word{value: "csv", allowed: []string{"csv", "yaml", "json"}}
	cmd := &cobra.Command{
		Use: "export [FILE]", Short: "Write prices in the form that import reads", Args: cobra.MaximumNArgs(1),
		Long:    "Write the prices in force in the form that import reads: as CSV, YAML or JSON by the name of FILE, or to the screen.",
		Example: "  fulcrum price export prices.csv\n  fulcrum price export --all --form yaml\n  fulcrum price export --version tenant-3 old.csv",
	}
	cmd.Flags().BoolVar(&all, "all", false, "the shipped prices too, not only those of your own")
	cmd.Flags().StringVar(&version, "version", "", "what this version of your list brought, instead of what is in force")
	cmd.Flags().Var(&at, "at", "in force then (default now)")
	cmd.Flags().Var(form, "form", "csv, yaml or json, without a FILE")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		prices, err := o.exported(ctx, cmd, c, version, &pricingv1.ListPricesRequest{OwnOnly: !all, At: at.stamp()})
		if err != nil {
			return err
		}
		list := make([]pricelist.Entry, len(prices))
		for i, p := range prices {
			list[i] = pricelist.FromWire(p)
		}
		name := "." + form.value
		if len(args) == 1 {
			name = args[0]
		}
		text, err := writtenPrices(name, list)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			_, err = io.WriteString(cmd.OutOrStdout(), terminal.CleanLines(string(text)))
			return err
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return err
		}
		o.say(cmd, "%d prices are in %s", len(list), name)
		return nil
	})
	return cmd
}

func (o *operator) exported(ctx context.Context, cmd *cobra.Command, c *client, version string, req *pricingv1.ListPricesRequest) ([]*pricingv1.Price, error) {
	if version == "" {
		resp, err := o.pricesInForce(ctx, cmd, c, req)
		return resp.GetPrices(), err
	}
	resp, err := c.prices.GetPriceVersion(ctx, &pricingv1.GetPriceVersionRequest{VersionId: version})
	return resp.GetPrices(), err
}

func writtenPrices(name string, list []pricelist.Entry) ([]byte, error) {
	switch ext := filepath.Ext(name); ext {
	case ".csv":
		return pricelist.CSV(list), nil
	case ".yaml", ".yml":
		return pricelist.YAML(list)
	case ".json":
		return pricelist.JSON(list)
	default:
		return nil, usageError{fmt.Errorf("a price list is written as .csv, .yaml or .json, not %q", ext)}
	}
}
