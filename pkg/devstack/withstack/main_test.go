package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// With this variable set, the test binary is withstack itself.
const selfVariable = "WITHSTACK_TEST_SELF"

func TestMain(m *testing.M) {
	if os.Getenv(selfVariable) != "" {
		os.Unsetenv(selfVariable)
		main()
	}
	os.Exit(m.Run())
}

// withstack is the command with these arguments, in an environment without a
// stack but for env.
func withstack(t *testing.T, args []string, env ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TEST_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(append(cmd.Env, env...), selfVariable+"=1")
	return cmd
}

func TestCommandFindsItsStackAndItsExitCodeIsKept(t *testing.T) {
	t.Parallel()
	cmd := withstack(t, []string{"--", "sh", "-c", `echo "$TEST_POSTGRES_URL $TEST_REDIS_URL $TEST_NATS_URL"; exit 7`})
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Fatalf("exit code %d, error %v, want 7\n%s", code, err, &stderr)
	}
	urls := strings.Fields(string(out))
	for i, scheme := range []string{"postgres://", "redis://", "nats://"} {
		if len(urls) != 3 || !strings.HasPrefix(urls[i], scheme) {
			t.Errorf("command saw %q", urls)
		}
	}
	for _, step := range []string{"starting PostgreSQL … ok (", "starting Redis … ok (", "starting NATS … ok ("} {
		if !strings.Contains(stderr.String(), step) {
			t.Errorf("no line %q in:\n%s", step, &stderr)
		}
	}
}

func TestSignalIsPassedOnAndTheStackStopped(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		script string
		code   int
	}{
		{"a command that handles it", syscall.SIGTERM, `trap 'exit 5' TERM; echo ready $TEST_POSTGRES_URL; while :; do sleep 0.02; done`, 5},
		{"a command that dies of it", syscall.SIGINT, `echo ready $TEST_POSTGRES_URL; exec sleep 60`, 128 + int(syscall.SIGINT)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := withstack(t, []string{"sh", "-c", tt.script})
			// No terminal in front, whoever runs the test.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			if line, err := lines.ReadString('\n'); !strings.HasPrefix(line, "ready postgres://") {
				t.Fatalf("command said %q, error %v", line, err)
			}
			if err := cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, lines)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
		})
	}
}

func TestGivenURLsAreUsedAsTheyAre(t *testing.T) {
	t.Parallel()
	cmd := withstack(t, []string{"sh", "-c", `echo "$TEST_POSTGRES_URL $TEST_REDIS_URL $TEST_NATS_URL"`},
		"TEST_POSTGRES_URL=postgres://a", "TEST_REDIS_URL=redis://b", "TEST_NATS_URL=nats://c")
	out, err := cmd.CombinedOutput()
	if want := "postgres://a redis://b nats://c\n"; err != nil || string(out) != want {
		t.Errorf("output %q, error %v, want %q", out, err, want)
	}
}

func TestWrongUseIsExplained(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	if code := run(nil, &stderr); code != 2 || !strings.Contains(stderr.String(), "usage: withstack") {
		t.Errorf("exit code %d, output %q", code, &stderr)
	}
}
