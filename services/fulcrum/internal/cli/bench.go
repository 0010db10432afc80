package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"

	report "github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/bench"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/demo"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/stack"
)

func benchCommand() *cobra.Command {
	var file, profile string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure decisions against their floor on a private, temporary stack",
		Long: `Measure Authorize beside an empty durable commit, a gRPC round trip and a raw
OPA evaluation, in turns and in one run, at 1, 8 and 64 callers. Everything runs
on this machine; PostgreSQL is durable (fsync on).`,
		Example: "  fulcrum bench\n  fulcrum bench --out figures.jsonl",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runBench(cmd, file, profile) },
	}
	cmd.Flags().StringVar(&file, "out", "", "also write the figures to this file, JSON lines")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "also write a CPU profile of all services and of the load to this file")
	return cmd
}

func runBench(cmd *cobra.Command, file, profile string) (err error) {
	ctx, progress := cmd.Context(), cmd.ErrOrStderr()
	steps := &progressLine{out: progress}
	running, err := stack.Start(ctx, stack.Options{
		Getenv: benchEnv, Log: slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelError})), Progress: steps.begin})
	steps.end()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, running.Stop()) }()

	target, err := benchTarget(ctx, running)
	if err != nil {
		return err
	}
	stop, err := startProfile(profile)
	if err != nil {
		return err
	}
	lines, err := bench.Run(ctx, target, progress)
	err = errors.Join(err, stop())
	if err != nil {
		return err
	}
	if err := report.Print(cmd.OutOrStdout(), lines); err != nil || file == "" {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(report.WriteJSON(io.Writer(f), lines), f.Close())
}

// startProfile begins a CPU profile, unless file is empty, and returns what
// ends it.
func startProfile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// benchEnv lifts the limits that would refuse a load generator.
func benchEnv(key string) string {
	switch key {
	case "GATEWAY_KEY_RATE", "GATEWAY_TENANT_RATE":
		return "0" // no limit
	}
	return ""
}

func benchTarget(ctx context.Context, r *stack.Running) (bench.Target, error) {
	t := demo.Target{GRPCAddr: r.GRPCAddr, HTTPURL: r.HTTPURL, AdminKey: r.AdminKey}
	held, err := demo.Seed(ctx, t, demo.WithBudgets)
	if err != nil {
		return bench.Target{}, fmt.Errorf("make a tenant with budgets: %w", err)
	}
	plain, err := demo.Seed(ctx, t, demo.PoliciesOnly)
	if err != nil {
		return bench.Target{}, fmt.Errorf("make a tenant without budgets: %w", err)
	}
	limited, err := demo.Seed(ctx, t, demo.PoliciesOnly)
	if err != nil {
		return bench.Target{}, fmt.Errorf("make a tenant with a limit: %w", err)
	}
	if err := bench.Limit(ctx, r.GRPCAddr, limited.Reveal()); err != nil {
		return bench.Target{}, err
	}
	return bench.Target{LimitedKey: limited.Reveal(), GRPCAddr: r.GRPCAddr, Key: held.Reveal(), PlainKey: plain.Reveal(), PostgresURL: r.PostgresURL()}, nil
}
