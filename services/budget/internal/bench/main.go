// Package bench measures the ledger: group commit beside a plain transaction for
// each hold, at a fixed rate through gRPC, and by the number of budgets. Cases
// that are compared take turns in one run, on the same server with the same
// settings, so that a noisy machine disturbs all alike.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
)

// plan says how long to look at what.
type plan struct {
	rounds int           // of each case; figures are medians
	each   time.Duration // of one case in one round
	rate   time.Duration // of one rate in one round
	many   int           // budgets that are compared with few
}

const few = 100

// Main measures and prints a table. It returns the exit code; goals that are
// missed are shown and are no failure.
func Main(args []string, getenv func(string) string, out, progress io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if getenv(asService) != "" {
		return fail(progress, serve(ctx, getenv, progress))
	}
	return fail(progress, run(ctx, args, out, progress))
}

func fail(out io.Writer, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	}
	fmt.Fprintln(out, "bench:", err)
	return 1
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	file := flags.String("out", "", "also write the figures to this `file`, JSON lines")
	profile := flags.String("cpuprofile", "", "write a CPU profile of the ledger and the load to this `file`")
	only := flags.String("only", "", "one `part` only: cost, hot, spread, fairness, growth or rate")
	p := plan{many: 100_000}
	flags.IntVar(&p.rounds, "rounds", 5, "`times` that each case is measured")
	flags.DurationVar(&p.each, "each", 700*time.Millisecond, "how long each time")
	flags.DurationVar(&p.rate, "rate-each", 3*time.Second, "how long each rate is kept up each time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}

	lines, err := measure(ctx, p, *only, progress)
	if err != nil {
		return err
	}
	if err := bench.Print(out, lines); err != nil || *file == "" {
		return err
	}
	f, err := os.Create(*file)
	if err != nil {
		return err
	}
	return errors.Join(bench.WriteJSON(f, lines), f.Close())
}

// measure runs the parts one after the other on a server of their own. The rates come
// first: their service adds up again when it starts, as it does once a day, what the
// other parts would leave: millions of holds, and windows.
func measure(ctx context.Context, p plan, only string, progress io.Writer) (lines []bench.Line, err error) {
	fmt.Fprintln(progress, "starting PostgreSQL, fsync on …")
	s, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	known := false
	for _, part := range []struct {
		name string
		run  func(context.Context, *server, plan, io.Writer) ([]bench.Line, error)
	}{
		{"rate", rates}, {"cost", cost}, {"hot", hot}, {"spread", spread}, {"fairness", fairness}, {"growth", growth},
	} {
		if only != "" && only != part.name {
			continue
		}
		known = true
		if err := s.tidy(ctx); err != nil {
			return nil, err
		}
		more, err := part.run(ctx, s, p, progress)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		lines = append(lines, more...)
	}
	if !known {
		return nil, fmt.Errorf("there is no part %q", only)
	}
	return lines, nil
}
