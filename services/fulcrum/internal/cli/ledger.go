package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) ledgerCommand() *cobra.Command {
	return o.remote(group("ledger", "Export, check and correct the books", "", o.ledgerExport(), o.ledgerCheck(), o.ledgerCorrect()))
}

func (o *operator) ledgerExport() *cobra.Command {
	req := &ledgerv1.ExportEntriesRequest{}
	var from, to moment
	format := word{value: "csv", allowed: []string{"csv", "jsonl"}}
	cmd := &cobra.Command{
		Use: "export", Short: "Write every entry of a span of time", Args: arguments(),
		Long: `Write every entry of a span of time to standard output: account by account, each in
the order of time, and after these the holds, which are in several accounts, in the order
of time; the same order whenever it is asked. If it breaks off, the cursor
of the last whole page is said; --cursor goes on after it.`,
		Example: "  fulcrum ledger export --from 2026-10-01 --to 2026-11-01 > october.csv\n  fulcrum ledger export --from 24h --format jsonl --account wallet:01a1…",
	}
	cmd.Flags().Var(&from, "from", "from then on")
	cmd.Flags().Var(&to, "to", "until then (default a few seconds ago)")
	cmd.Flags().StringVar(&req.Account, "account", "", "only this budget's id, or wallet:<id>")
	cmd.Flags().StringVar(&req.Cursor, "cursor", "", "go on after this")
	cmd.Flags().Var(&format, "format", "csv or jsonl; amounts of money are nano-USD")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		req.From, req.To = from.stamp(), to.stamp()
		if req.From == nil && req.Cursor == "" {
			return usagef("%s needs --from", cmd.CommandPath())
		}
		stream, err := c.books.ExportEntries(ctx, req)
		if err != nil {
			return err
		}
		write, flush := entryWriter(cmd.OutOrStdout(), format.value == "csv", req.Cursor == "")
		cursor, n := "", int64(0)
		for {
			page, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if cursor != "" {
					o.say(cmd, "%s entries are written; go on with: --cursor %s", count(n), cursor)
				}
				return err
			}
			for _, e := range page.GetEntries() {
				if err := write(e); err != nil {
					return err
				}
			}
			if err := flush(); err != nil {
				return err
			}
			cursor, n = page.GetCursor(), n+int64(len(page.GetEntries()))
		}
		o.say(cmd, "%s entries", count(n))
		return flush()
	})
	return cmd
}

// entryLine is an entry as a row: the names of the columns in CSV, of the
// members in JSON lines.
type entryLine struct {
	OccurredAt    string `json:"occurred_at"`
	TransactionID string `json:"transaction_id"`
	Line          int32  `json:"line"`
	Kind          string `json:"kind"`
	Account       string `json:"account"`
	WindowStart   string `json:"window_start"`
	From          string `json:"from"`
	To            string `json:"to"`
	CostNano      int64  `json:"cost_nano"`
	InputTokens   int64  `json:"input_tokens"`
	OutputTokens  int64  `json:"output_tokens"`
	LLMCalls      int64  `json:"llm_calls"`
	ToolCalls     int64  `json:"tool_calls"`
	Seconds       int64  `json:"seconds"`
	ReservationID string `json:"reservation_id"`
}

func lineOf(e *ledgerv1.Entry) entryLine {
	a := e.GetAmounts()
	return entryLine{
		OccurredAt: e.GetOccurredAt().AsTime().Format(time.RFC3339Nano), TransactionID: e.GetTransactionId(), Line: e.GetLine(), Kind: e.GetKind(),
		Account: e.GetBudgetId(), WindowStart: e.GetWindowStart().AsTime().Format(time.RFC3339), From: e.GetFromAccount(), To: e.GetToAccount(),
		CostNano: a.GetCostNano(), InputTokens: a.GetInputTokens(), OutputTokens: a.GetOutputTokens(), LLMCalls: a.GetLlmCalls(),
		ToolCalls: a.GetToolCalls(), Seconds: a.GetSeconds(), ReservationID: e.GetReservationId(),
	}
}

func entryWriter(out io.Writer, asCSV, header bool) (write func(*ledgerv1.Entry) error, flush func() error) {
	if !asCSV {
		e := json.NewEncoder(out)
		return func(entry *ledgerv1.Entry) error { return e.Encode(lineOf(entry)) }, func() error { return nil }
	}
	w := csv.NewWriter(out)
	if header {
		_ = w.Write([]string{"occurred_at", "transaction_id", "line", "kind", "account", "window_start", "from", "to", // Flush says what failed
			"cost_nano", "input_tokens", "output_tokens", "llm_calls", "tool_calls", "seconds", "reservation_id"})
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return func(entry *ledgerv1.Entry) error {
			l := lineOf(entry)
			return w.Write([]string{l.OccurredAt, l.TransactionID, n(int64(l.Line)), l.Kind, l.Account, l.WindowStart, l.From, l.To,
				n(l.CostNano), n(l.InputTokens), n(l.OutputTokens), n(l.LLMCalls), n(l.ToolCalls), n(l.Seconds), l.ReservationID})
		}, func() error {
			w.Flush()
			return w.Error()
		}
}

func (o *operator) ledgerCheck() *cobra.Command {
	req := &ledgerv1.CheckLedgerRequest{}
	cmd := &cobra.Command{
		Use: "check", Short: "Add up every entry now and compare with the counters", Args: arguments(),
		Long:    "Add up every entry of the tenant now and compare with the counters. It changes nothing; a difference exits with 1. A large ledger may need a longer --timeout.",
		Example: "  fulcrum ledger check",
	}
	cmd.Flags().StringVar(&req.Account, "account", "", "only this budget's id, or wallet:<id>")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		resp, err := c.books.CheckLedger(ctx, req)
		if err != nil {
			return err
		}
		t := terminal.NewTable("ACCOUNT", "WINDOW", "COUNTER OF", "UNIT", ">COUNTER", ">ENTRIES")
		for _, d := range resp.GetDifferences() {
			t.Row(d.GetBudgetId(), when(d.GetWindowStart()), d.GetAccount(), d.GetUnit(), count(d.GetCounter()), count(d.GetEntries()))
		}
		if err := o.list(cmd, resp, t, fmt.Sprintf("%s windows add up", count(resp.GetWindows()))); err != nil {
			return err
		}
		if n := len(resp.GetDifferences()); n > 0 {
			return fmt.Errorf("%d counters are not what their entries add up to", n)
		}
		return nil
	})
	return cmd
}

func (o *operator) ledgerCorrect() *cobra.Command {
	req := &ledgerv1.CorrectChargeRequest{}
	var wallet, budget string
	cmd := &cobra.Command{
		Use: "correct AMOUNT", Short: "Add a correction to what was spent; a negative AMOUNT follows --", Args: arguments("AMOUNT"),
		Long: `Add AMOUNT USD to what was spent, or give it back if it is negative. Nothing in the
ledger is changed: a correction is one more transaction, with its reason and author.
With --reservation it reaches every budget and wallet the action was charged to.`,
		Example: "  fulcrum ledger correct --reservation 01a1fded-d2d8-7cf5-a33a-12f85d2852f1 --reason 'billed twice' -- -1.25",
	}
	key := keyFlag(cmd)
	cmd.Flags().StringVar(&req.ReservationId, "reservation", "", "a settled action's reservation")
	cmd.Flags().StringVar(&budget, "budget", "", "a budget's name or id, in the window that is open now")
	cmd.Flags().StringVar(&wallet, "wallet", "", "a wallet's name or id")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record (required)")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		n, err := money.Parse(args[0])
		if err != nil {
			return usagef("AMOUNT: %w", err)
		}
		if budget != "" {
			b, err := o.findBudget(ctx, cmd, c, budget)
			if err != nil {
				return err
			}
			req.BudgetId = b.GetBudgetId()
		}
		if wallet != "" {
			w, err := o.findWallet(ctx, c, wallet)
			if err != nil {
				return err
			}
			req.WalletId = w.GetWalletId()
		}
		req.AmountNano, req.IdempotencyKey = int64(n), key()
		resp, err := c.books.CorrectCharge(ctx, req)
		if err != nil {
			return err
		}
		t := terminal.NewTable("CORRECTED", ">SPENT NOW", "OF")
		for _, b := range resp.GetBudgets() {
			t.Row(b.GetName(), fmt.Sprint(b.GetSpent()), b.GetUnit())
		}
		return o.list(cmd, resp, t, "corrected")
	})
	return cmd
}
