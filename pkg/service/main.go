// Package service gives every Fulcrum process the same birth and death.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/fulcrum-io/fulcrum/pkg/config"
)

// version is set by the linker: -X github.com/fulcrum-io/fulcrum/pkg/service.version=v1.2.3.
var version = "dev"

// Version is the version this binary was built as.
func Version() string { return version }

// Env is what a process is handed by its surroundings, so that tests, and a
// process that runs several services, can hand it something else.
type Env struct {
	Getenv  func(string) string
	Log     *slog.Logger
	Stdout  io.Writer
	Version string

	// Listen opens the service's listeners; nil means the network's own.
	Listen func(ctx context.Context, addr string) (net.Listener, error)

	describe bool // Open prints the settings instead of opening anything
}

// Main runs a service until it returns or the process is told to stop: the
// first interrupt stops it gracefully, the second kills it. Beside running,
// each binary answers
//
//	healthcheck   0 if the service on this machine is ready, else 1
//	settings      the environment variables it reads (also --help)
//	version       its version
func Main(name string, run func(context.Context, Env) error) {
	env := Env{Getenv: os.Getenv, Stdout: os.Stdout, Version: version}
	os.Exit(start(name, os.Args[1:], env, os.Stderr, run))
}

func start(name string, args []string, env Env, stderr io.Writer, run func(context.Context, Env) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal has its default effect

	log, err := NewLog(config.From(env.Getenv), stderr)
	if err == nil {
		env.Log = log
		err = command(ctx, name, args, env, run)
	}
	if err == nil || errors.Is(err, errDescribed) {
		return 0
	}
	if terminal(stderr) || log == nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
	} else {
		log.LogAttrs(context.WithoutCancel(ctx), slog.LevelError, "exit", slog.String("service", name), slog.Any("err", err))
	}
	return 1
}

func command(ctx context.Context, name string, args []string, env Env, run func(context.Context, Env) error) error {
	if len(args) == 0 {
		return run(ctx, env)
	}
	switch args[0] {
	case "healthcheck":
		return Healthcheck(ctx, opsAddr(config.From(env.Getenv), name))
	case "settings", "help", "--help", "-h":
		env.describe = true
		env.Getenv = config.Map(nil)
		return run(ctx, env)
	case "version", "--version":
		fmt.Fprintln(env.Stdout, name, env.Version)
		return nil
	}
	return fmt.Errorf("unknown command %q: want healthcheck, settings, version, or nothing to serve", args[0])
}
