package cli

import (
	"context"
	"io"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) walletCommand() *cobra.Command {
	return o.remote(group("wallet", "Manage prepaid credit", `Manage prepaid credit. A budget may draw on a wallet: what its actions may cost is
held there, too, and refused when the balance does not suffice.`,
		o.walletList(), o.walletShow(), o.walletCreate(), o.walletTopUp(),
		o.walletAdjust("refund NAME|ID AMOUNT", "Take credit out that is paid back elsewhere", "  fulcrum wallet refund acme 20 --reason 'contract ended'", true),
		o.walletAdjust("adjust NAME|ID AMOUNT", "Put a mistake right; a negative AMOUNT follows --", "  fulcrum wallet adjust acme --reason 'typed twice' -- -20", false),
		o.walletFreeze("freeze", true), o.walletFreeze("thaw", false), o.walletKey(), o.walletStatement()))
}

func (o *operator) walletList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List wallets with their balances", Args: arguments(), Example: "  fulcrum wallet list",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
			if err != nil {
				return err
			}
			return o.list(cmd, resp, walletTable(resp.GetWallets()...), "no wallets; make one with: fulcrum wallet create NAME")
		}),
	}
}

func walletTable(all ...*walletv1.Wallet) *terminal.Table {
	t := terminal.NewTable("NAME", "STATUS", ">BALANCE", ">HELD", ">AVAILABLE", "ID")
	for _, w := range all {
		t.Row(w.GetName(), walletStatus(w), dollars(w.GetBalanceNano()), dollars(w.GetHeldNano()), dollars(w.GetAvailableNano()), w.GetWalletId())
	}
	return t
}

func walletStatus(w *walletv1.Wallet) string {
	switch {
	case w.GetFrozen():
		return "FROZEN"
	case w.GetBalanceNano() < 0:
		return "OVERDRAWN"
	case w.GetBalanceNano() == 0:
		return "EMPTY"
	}
	for _, low := range w.GetLowBalanceNano() {
		if w.GetBalanceNano() <= low {
			return "LOW"
		}
	}
	return "OK"
}

func dollars(nano int64) string { return money.Nano(nano).String() }

func (o *operator) findWallet(ctx context.Context, c *client, named string) (*walletv1.Wallet, error) {
	if _, err := uuid.Parse(named); err == nil && len(named) == 36 {
		resp, err := c.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: named})
		return resp.GetWallet(), err
	}
	resp, err := c.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
	if err != nil {
		return nil, err
	}
	return byName("wallet", named, resp.GetWallets(), (*walletv1.Wallet).GetName, (*walletv1.Wallet).GetWalletId)
}

func (o *operator) walletShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME|ID", Short: "Show one wallet", Args: arguments("NAME or ID"), Example: "  fulcrum wallet show acme",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			w, err := o.findWallet(ctx, c, args[0])
			if err != nil {
				return err
			}
			return o.answer(cmd, w, func(out io.Writer, color bool) error {
				var f terminal.Facts
				f.Add("wallet", w.GetName()+" ("+w.GetWalletId()+")")
				f.Add("description", w.GetDescription())
				f.Add("status", walletStatus(w))
				f.Add("frozen because", w.GetFrozenReason())
				f.Add("balance", dollars(w.GetBalanceNano()))
				f.Add("held", dollars(w.GetHeldNano()))
				f.Add("available", dollars(w.GetAvailableNano()))
				f.Add("credited", dollars(w.GetCreditedNano()))
				f.Add("spent", dollars(w.GetSpentNano()))
				for _, low := range w.GetLowBalanceNano() {
					f.Add("low at", dollars(low))
				}
				return f.Write(out, color)
			})
		}),
	}
}

func (o *operator) walletCreate() *cobra.Command {
	req := &walletv1.CreateWalletRequest{}
	var low []string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an empty wallet", Args: arguments("NAME"),
		Example: "  fulcrum wallet create acme --low 50 --low 10",
	}
	cmd.Flags().StringVar(&req.Description, "description", "", "what it is for")
	cmd.Flags().StringArrayVar(&low, "low", nil, "call it low once the balance falls to these USD (may be repeated)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		req.Name = args[0]
		for _, text := range low {
			n, err := money.Parse(text)
			if err != nil {
				return usagef("--low: %w", err)
			}
			req.LowBalanceNano = append(req.LowBalanceNano, int64(n))
		}
		resp, err := c.wallets.CreateWallet(once(ctx), req)
		if err != nil {
			return err
		}
		if err := o.list(cmd, resp.GetWallet(), walletTable(resp.GetWallet()), ""); err != nil {
			return err
		}
		o.next(cmd, "fulcrum wallet topup %s AMOUNT, and fulcrum budget create NAME --wallet %s …", args[0], args[0])
		return nil
	})
	return cmd
}

// keyFlag lets whoever repeats a command after a lost answer say that it is the
// same request.
func keyFlag(cmd *cobra.Command) func() string {
	key := cmd.Flags().String("idempotency-key", "", "names this request: repeated with the same key it happens once (default a new one)")
	return func() string {
		if *key == "" {
			return uuid.Must(uuid.NewV7()).String()
		}
		return *key
	}
}

func (o *operator) walletTopUp() *cobra.Command {
	req := &walletv1.TopUpWalletRequest{}
	cmd := &cobra.Command{
		Use: "topup NAME|ID AMOUNT", Short: "Add credit in USD", Args: arguments("NAME or ID", "AMOUNT"),
		Example: "  fulcrum wallet topup acme 500 --reference invoice-2026-117",
	}
	key := keyFlag(cmd)
	cmd.Flags().StringVar(&req.Reference, "reference", "", "the payment's name elsewhere")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		n, err := money.Parse(args[1])
		if err != nil {
			return usagef("AMOUNT: %w", err)
		}
		w, err := o.findWallet(ctx, c, args[0])
		if err != nil {
			return err
		}
		req.WalletId, req.AmountNano, req.IdempotencyKey = w.GetWalletId(), int64(n), key()
		resp, err := c.wallets.TopUpWallet(ctx, req)
		if err != nil {
			return err
		}
		return o.list(cmd, resp, walletTable(resp.GetWallet()), "")
	})
	return cmd
}

func (o *operator) walletAdjust(use, short, example string, refund bool) *cobra.Command {
	req := &walletv1.AdjustWalletRequest{Kind: walletv1.MovementKind_MOVEMENT_KIND_ADJUSTMENT}
	cmd := &cobra.Command{Use: use, Short: short, Args: arguments("NAME or ID", "AMOUNT"), Example: example}
	key := keyFlag(cmd)
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record (required)")
	cmd.Flags().StringVar(&req.Reference, "reference", "", "the payment's name elsewhere")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		n, err := money.Parse(args[1])
		if err != nil {
			return usagef("AMOUNT: %w", err)
		}
		if refund {
			req.Kind, n = walletv1.MovementKind_MOVEMENT_KIND_REFUND, -n
		}
		w, err := o.findWallet(ctx, c, args[0])
		if err != nil {
			return err
		}
		req.WalletId, req.AmountNano, req.IdempotencyKey = w.GetWalletId(), int64(n), key()
		resp, err := c.wallets.AdjustWallet(ctx, req)
		if err != nil {
			return err
		}
		return o.list(cmd, resp, walletTable(resp.GetWallet()), "")
	})
	return cmd
}

func (o *operator) walletFreeze(verb string, frozen bool) *cobra.Command {
	short := "Let a wallet pay for nothing new; what is held may still be settled"
	if !frozen {
		short = "Let a frozen wallet pay again"
	}
	var reason string
	cmd := &cobra.Command{
		Use: verb + " NAME|ID", Short: short, Args: arguments("NAME or ID"), Example: "  fulcrum wallet " + verb + " acme --reason 'payment disputed'",
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		w, err := o.findWallet(ctx, c, args[0])
		if err != nil {
			return err
		}
		if _, err = c.wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: w.GetWalletId(), Frozen: &frozen, Reason: reason}); err != nil {
			return err
		}
		resp, err := c.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w.GetWalletId()})
		if err != nil {
			return err
		}
		return o.list(cmd, resp.GetWallet(), walletTable(resp.GetWallet()), "")
	})
	return cmd
}
