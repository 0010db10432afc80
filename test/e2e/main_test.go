// Package e2e tests a running Fulcrum through its public doors.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// lab and stack are set by TestMain, before any test. The stack is shared by
// the tests that leave it running: each makes tenants of its own.
var (
	lab   *running.Lab
	stack *running.Stack
)

func TestMain(m *testing.M) {
	os.Exit(running.Main(m, func(l *running.Lab) { lab = l }, shared))
}

// shared runs the tests on one stack.
func shared(run func() int) int {
	s, err := lab.Up(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stack = s
	code := run()
	if err := s.Close(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
