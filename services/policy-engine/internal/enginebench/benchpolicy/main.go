// Command benchpolicy measures the policy engine beside the OPA library used
// plainly, in one run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/enginebench"
)

func main() {
	out := flag.String("out", "", "also write the figures to this file, JSON lines")
	only := flag.String("only", "", "measure only the parts whose names contain this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "benchpolicy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only, file string) error {
	lines, err := enginebench.Run(ctx, only, os.Stderr)
	if err != nil {
		return err
	}
	if err := bench.Print(os.Stdout, lines); err != nil || file == "" {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(bench.WriteJSON(f, lines), f.Close())
}
