package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/config"
)

// TestMain lets this binary stand in for a service, so that signals and exit
// codes are tested on a real process.
func TestMain(m *testing.M) {
	switch os.Getenv("SERVICE_TEST_ROLE") {
	case "":
		os.Exit(m.Run())
	case "patient":
		Main("patient", func(ctx context.Context, _ Env) error {
			fmt.Println("up")
			<-ctx.Done()
			fmt.Println("stopping")
			return nil
		})
	case "stubborn":
		Main("stubborn", func(ctx context.Context, _ Env) error {
			fmt.Println("up")
			<-ctx.Done()
			fmt.Println("stopping")
			time.Sleep(time.Hour)
			return nil
		})
	case "broken":
		Main("broken", func(context.Context, Env) error { return errors.New("open database: no route to host") })
	}
}

// process runs this binary in a role and returns it when it is up.
func process(t *testing.T, role string) (cmd *exec.Cmd, read func() string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SERVICE_TEST_ROLE="+role, "GOCOVERDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, func() string {
		line := make([]byte, 64)
		n, _ := out.Read(line)
		return strings.TrimSpace(string(line[:n]))
	}
}

func TestTheFirstSignalStopsGracefully(t *testing.T) {
	t.Parallel()
	cmd, read := process(t, "patient")
	if got := read(); got != "up" {
		t.Fatal(got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "stopping" {
		t.Errorf("it said %q", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestTheSecondSignalKills(t *testing.T) {
	t.Parallel()
	cmd, read := process(t, "stubborn")
	read()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "stopping" {
		t.Fatal(got)
	}
	// The handler is given back in its own goroutine: repeat until it is.
	killed := make(chan error, 1)
	go func() { killed <- cmd.Wait() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-killed:
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.Sys().(syscall.WaitStatus).Signal() != os.Interrupt {
				t.Errorf("exit: %v", err)
			}
			return
		case <-tick.C:
		}
	}
	t.Error("it cannot be killed")
}

func TestAFailureIsOneLineAndExitCodeOne(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SERVICE_TEST_ROLE=broken", "GOCOVERDIR="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 {
		t.Errorf("exit: %v", err)
	}
	if got := stderr.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "open database: no route to host") || !strings.Contains(got, `"service":"broken"`) {
		t.Errorf("stderr:\n%s", got)
	}
}

func TestCommandsBesideServing(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	_ = ln.Close()
	run := func(ctx context.Context, env Env) error {
		sh, err := Open(ctx, env, "budget", func(r *config.Reader) {
			r.String("BUDGET_REQUIRED")
			r.Doc("BUDGET_REQUIRED", "what only you can know")
		})
		if err != nil {
			return fmt.Errorf("config: %w", err)
		}
		sh.Close()
		return nil
	}
	for _, tt := range []struct {
		name           string
		args           []string
		vars           map[string]string
		exit           int
		stdout, stderr []string
	}{
		{"settings", []string{"settings"}, map[string]string{"BUDGET_REQUIRED": "x", "FULCRUM_INTERNAL_TOKEN": "hunter2"}, 0,
			[]string{"BUDGET_REQUIRED", "(required)", "what only you can know", "POSTGRES_CONN_STR", "BUDGET_OPS_ADDR", "127.0.0.1:9103", "LOG_LEVEL", "FULCRUM_DRAIN", "15s"}, nil},
		{"help", []string{"--help"}, nil, 0, []string{"BUDGET_REQUIRED"}, nil},
		{"version", []string{"version"}, nil, 0, []string{"budget v1.2.3"}, nil},
		{"healthcheck of nobody", []string{"healthcheck"}, map[string]string{"BUDGET_OPS_ADDR": nobody}, 1, nil, []string{"not reachable"}},
		{"an unknown command", []string{"serve"}, nil, 1, nil, []string{`unknown command \"serve\"`}},
		{"bad settings, all of them", nil, map[string]string{"FULCRUM_DRAIN": "soon", "REDIS_DB": "x"}, 1, nil, []string{"BUDGET_REQUIRED: is required", "FULCRUM_DRAIN", "REDIS_DB"}},
		{"a bad log level", nil, map[string]string{"LOG_LEVEL": "loud"}, 1, nil, []string{"LOG_LEVEL"}},
		{"good settings", nil, map[string]string{"BUDGET_REQUIRED": "x"}, 0, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			env := Env{Getenv: config.Map(tt.vars), Stdout: &stdout, Version: "v1.2.3"}
			if got := start("budget", tt.args, env, &stderr, run); got != tt.exit {
				t.Errorf("exit code %d, want %d", got, tt.exit)
			}
			for _, want := range tt.stdout {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("%q is not in\n%s", want, stdout.String())
				}
			}
			for _, want := range tt.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q is not in\n%s", want, stderr.String())
				}
			}
			if strings.Contains(stdout.String()+stderr.String(), "hunter2") {
				t.Error("a secret was printed")
			}
		})
	}
}

func TestLogFormats(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		vars map[string]string
		want string
		not  string
	}{
		{nil, `"msg":"hello"`, "quiet"},
		{map[string]string{"LOG_FORMAT": "text", "LOG_LEVEL": "debug"}, "quiet", `"msg"`},
		{map[string]string{"LOG_FORMAT": "json", "LOG_LEVEL": "error"}, "", "hello"},
	} {
		var out bytes.Buffer
		log, err := NewLog(config.From(config.Map(tt.vars)), &out)
		if err != nil {
			t.Fatal(err)
		}
		log.DebugContext(t.Context(), "quiet")
		log.InfoContext(t.Context(), "hello")
		if !strings.Contains(out.String(), tt.want) || strings.Contains(out.String(), tt.not) {
			t.Errorf("%v:\n%s", tt.vars, out.String())
		}
	}
}
