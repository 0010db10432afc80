// Command bench measures the budget ledger beside a plain transaction for each
// hold, on a PostgreSQL of its own that writes durably.
package main

import (
	"os"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/bench"
)

func main() { os.Exit(bench.Main(os.Args[1:], os.Getenv, os.Stdout, os.Stderr)) }
