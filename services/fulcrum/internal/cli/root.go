// Package cli is the fulcrum command.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/service"
)

// Main runs the command line and exits with what it says (see the exit codes).
// The first interrupt stops gracefully, the second kills.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], surroundings{getenv: os.Getenv, in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// surroundings are what a command line runs in.
type surroundings struct {
	getenv   func(string) string
	in       io.Reader
	out, err io.Writer
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, s surroundings) int {
	o := newOperator(s.getenv)
	root := rootCommand(o)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	messages := &locked{w: s.err}
	root.SetErr(messages)
	cmd, err := root.ExecuteContextC(ctx)
	return o.conclude(messages, cmd, err)
}

func rootCommand(o *operator) *cobra.Command {
	root := &cobra.Command{
		Use:   "fulcrum",
		Short: "Governance for AI agents: decide, hold the budget, keep the evidence",
		Long: `Governance for AI agents: decide, hold the budget, keep the evidence.

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 denied by policy, 4 over
budget, 5 needs approval, 6 evidence does not verify, 7 unreachable.`,
		Example: `  fulcrum up
  fulcrum policy list --key-file .data/demo.key
  fulcrum policy evaluate --tool drop_table --key-file .data/demo.key`,
		Version:       service.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          known,
		RunE:          help,
	}
	root.SetFlagErrorFunc(flagError)
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"run", "Run it:", []*cobra.Command{upCommand(), demoCommand(), benchCommand()}},
		{"deploy", "Deploy it:", []*cobra.Command{keygenCommand(), bootstrapCommand(), migrateCommand(), doctorCommand()}},
		{"operate", "Operate it (through the gateway):", []*cobra.Command{
			o.tenantCommand(), o.keyCommand(), o.agentCommand(), o.policyCommand(), o.toolCommand(), o.budgetCommand(), o.priceCommand(), o.spendCommand(), o.predictCommand(),
			o.walletCommand(), o.holdCommand(), o.ledgerCommand(),
			o.decisionCommand(), o.approvalCommand(), o.envelopeCommand(), o.eventCommand(), o.webhookCommand(), o.auditCommand(),
		}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	strict(root)
	return root
}
