package postgres_test

import (
	"flag"
	"os"
	"testing"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
)

// TestMain makes random tests few and long unless somebody asks for more, as in
// -rapid.checks=1000: here each step is a transaction, and what goes wrong does
// so late.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		_ = flag.Set("rapid.checks", balance.Long("30", "500"))
		_ = flag.Set("rapid.steps", "50")
	}
	os.Exit(m.Run())
}
