package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/receipt"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) walletKey() *cobra.Command {
	return &cobra.Command{
		Use: "key NAME|ID", Short: "Give a wallet a new key to sign its statements with", Args: arguments("NAME or ID"),
		Long: `Give a wallet a new signing key, and show its public half: keep it where statements
are to be verified. The private half never leaves the budget service, which stores it
encrypted. Older keys stay listed, so that older statements verify.`,
		Example: "  fulcrum wallet key acme",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			w, err := o.findWallet(ctx, c, args[0])
			if err != nil {
				return err
			}
			resp, err := c.wallets.CreateSigningKey(ctx, &walletv1.CreateSigningKeyRequest{WalletId: w.GetWalletId()})
			if err != nil {
				return err
			}
			return o.answer(cmd, resp, func(out io.Writer, color bool) error {
				var f terminal.Facts
				f.Add("key", resp.GetKey().GetKeyId())
				f.Add("public key", base64.StdEncoding.EncodeToString(resp.GetKey().GetPublicKey()))
				return f.Write(out, color)
			})
		}),
	}
}

func (o *operator) walletStatement() *cobra.Command {
	var from, to moment
	var verify bool
	var key string
	cmd := &cobra.Command{
		Use: "statement NAME|ID|FILE", Short: "Write a signed statement, or verify one without the server", Args: arguments("NAME, ID or FILE"),
		Long: `Write what happened to a wallet as one signed JSON document, of this month unless
--from says otherwise. With --verify the argument is a file with such a document: its
signature is checked, and that it adds up, without asking a server. Give the public
key that you kept with --key; without it the one in the file is taken, which proves
only that nobody changed the file since.`,
		Example: `  fulcrum wallet statement acme --from 2026-10-01 --to 2026-11-01 > october.json
  fulcrum wallet statement --verify october.json --key "$ACME_WALLET_KEY"`,
	}
	cmd.Flags().Var(&from, "from", "from then on (default the first of this month, UTC)")
	cmd.Flags().Var(&to, "to", "until then (default now)")
	cmd.Flags().BoolVar(&verify, "verify", false, "verify the FILE")
	cmd.Flags().StringVar(&key, "key", "", "public key to verify with, in base64")
	ask := o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		w, err := o.findWallet(ctx, c, args[0])
		if err != nil {
			return err
		}
		resp, err := c.wallets.GetStatement(ctx, &walletv1.GetStatementRequest{WalletId: w.GetWalletId(), From: from.stamp(), To: to.stamp()})
		if err != nil {
			return err
		}
		if why := resp.GetUnsignedReason(); why != "" {
			o.say(cmd, "not signed: %s", why)
		}
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(receipt.Signed{Document: resp.GetDocument(), Signature: resp.GetSignature(), KeyID: resp.GetKeyId(), PublicKey: resp.GetPublicKey()})
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !verify {
			return ask(cmd, args)
		}
		return o.verifyStatement(cmd, args[0], key)
	}
	return cmd
}

func (o *operator) verifyStatement(cmd *cobra.Command, file, key string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var signed receipt.Signed
	if err := json.Unmarshal(text, &signed); err != nil {
		return usagef("%s is not a statement: %w", file, err)
	}
	var trusted []byte
	if key != "" {
		if trusted, err = base64.StdEncoding.DecodeString(strings.TrimSpace(key)); err != nil || len(trusted) != 32 {
			return usagef("--key is not a public key: 32 bytes in base64, as fulcrum wallet key shows it")
		}
	}
	st, err := receipt.Verify(signed, trusted)
	if err != nil {
		return err
	}
	if trusted == nil {
		o.say(cmd, "checked with the key in the file: compare %s with the one you kept", base64.StdEncoding.EncodeToString(signed.PublicKey))
	}
	return o.document(cmd, st, func(out io.Writer, color bool) error {
		var f terminal.Facts
		f.Add("verified", "the signature fits and the statement adds up")
		f.Add("wallet", st.Name+" ("+st.Wallet+")")
		f.Add("period", st.From.Format("2006-01-02 15:04:05Z")+" to "+st.To.Format("2006-01-02 15:04:05Z"))
		f.Add("opening", dollars(st.Opening))
		f.Add("credited", dollars(st.Credited))
		f.Add("charged", dollars(st.Charged))
		f.Add("closing", dollars(st.Closing))
		f.Add("movements", fmt.Sprint(len(st.Movements)))
		return f.Write(out, color)
	})
}
