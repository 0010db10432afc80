package cli

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/demo"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/stack"
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Show a governed agent from start to end on a private, temporary stack",
		Example: "  fulcrum demo",
		Args:    cobra.NoArgs,
		RunE:    runDemo,
	}
	// The agent programs that the demo starts as processes of their own.
	cmd.AddCommand(
		&cobra.Command{Use: "published-agent", Hidden: true, RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.PublishedAgent(cmd.Context(), os.Getenv, cmd.OutOrStdout())
		}},
		&cobra.Command{Use: "governed-agent", Hidden: true, RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.GovernedAgent(cmd.Context(), os.Getenv, cmd.OutOrStdout())
		}},
	)
	return cmd
}

func runDemo(cmd *cobra.Command, _ []string) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	fmt.Fprintln(out, "Fulcrum demo: real PostgreSQL, Redis and JetStream in a temporary folder")
	steps := &progressLine{out: out}
	log := &tail{limit: 64 << 10}
	running, err := stack.Start(ctx, stack.Options{
		// The demo is private: servers named in the environment are not touched.
		Getenv:   func(string) string { return "" },
		Log:      slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Progress: steps.begin,
	})
	steps.end()
	defer func() {
		if err != nil && log.buf.Len() > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "\nWhat the services logged:\n%s\n", log.buf.String())
		}
	}()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, running.Stop()) }()
	return demo.Run(ctx, demo.Target{GRPCAddr: running.GRPCAddr, HTTPURL: running.HTTPURL, AdminKey: running.AdminKey}, out)
}

// tail keeps the end of what is written to it.
type tail struct {
	buf   bytes.Buffer
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if over := t.buf.Len() - t.limit; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}
