// Package chaos takes away from a running Fulcrum what it stands on, under
// load, and compares what its callers were told with what is on record.
package chaos

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// lab is set by TestMain, before any test.
var lab *running.Lab

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the time the tests wait for what a dead process had leased.
	if err := flag.Set("test.parallel", "3"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(running.Main(m, func(l *running.Lab) { lab = l }))
}

// rounds is how often to repeat: the same in every form, but for how often.
func rounds(short, full int) int {
	if running.Full() {
		return full
	}
	return short
}
