// Command withstack runs a command next to a PostgreSQL, a Redis and a NATS of
// its own, which it finds in TEST_POSTGRES_URL, TEST_REDIS_URL and TEST_NATS_URL:
//
//	go run ./pkg/devstack/withstack -- go test ./...
//
// A server whose variable is already set is used as it is. The exit code is the
// command's; 128 plus the signal if one ended it, 1 if the stack did not start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/fulcrum-io/fulcrum/pkg/devstack"
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("withstack", flag.ContinueOnError)
	flags.SetOutput(stderr)
	fsync := flags.Bool("fsync", false, "write as durably as in production")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: withstack [-fsync] -- command [argument ...]")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return 2
	}

	code, err := withStack(flags.Args(), *fsync, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "withstack:", err)
		code = max(code, 1)
	}
	return code
}

// withStack returns the command's exit code, and what went wrong around it.
func withStack(command []string, fsync bool, stderr io.Writer) (code int, err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	steps := &steps{out: stderr}
	stack, err := start(signals, devstack.Options{
		Postgres: os.Getenv("TEST_POSTGRES_URL"),
		Redis:    os.Getenv("TEST_REDIS_URL"),
		NATS:     os.Getenv("TEST_NATS_URL"),
		NoFsync:  !fsync,
		Progress: steps.begin,
	})
	steps.end(err)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()

	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stack.Env()...)
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	return wait(cmd, signals)
}

// start starts the stack; a signal calls it off.
func start(signals <-chan os.Signal, o devstack.Options) (*devstack.Stack, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	started := make(chan struct{})
	defer close(started)
	go func() {
		select {
		case s := <-signals:
			cancel(fmt.Errorf("%s", s))
		case <-started:
		}
	}()
	return devstack.Start(ctx, o)
}
