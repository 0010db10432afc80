package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// The demo is the product's own claim that it works: it says so by its exit
// code, and leaves neither a process nor a file behind.
func TestTheDemoSucceedsAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	if err := d.wait(); err != nil {
		t.Fatalf("fulcrum demo: %v\n%s", err, d.out.String())
	}
	if out := d.out.String(); !strings.Contains(out, "steps came out as expected") || strings.Contains(out, "✗") {
		t.Errorf("the demo prints:\n%s", out)
	}
	d.nothingLeft(t)
}

// When a step of the demo fails it fails, and cleans up all the same. What is
// broken here is the machine under it: the database is killed at the first step.
func TestTheDemoFailsWhenAStepFails(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	running.Eventually(t, 90*time.Second, func(context.Context) error {
		if !strings.Contains(d.out.String(), "create tenant acme") {
			return errors.New("the demo has not come to its first step")
		}
		return nil
	})
	pids, err := running.ProcessesIn(d.dir, "postgres")
	if err != nil || len(pids) == 0 {
		t.Fatalf("no database of the demo runs: %v", err)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // fails only if it has just ended
	}
	err = d.wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 {
		t.Errorf("fulcrum demo ends with %v, want exit status 1\n%s", err, d.out.String())
	}
	d.nothingLeft(t)
}

// demonstration is a run of fulcrum demo in a folder for temporary files of its
// own.
type demonstration struct {
	cmd *exec.Cmd
	dir string
	out *output
}

func startDemo(t *testing.T) *demonstration {
	t.Helper()
	dir := lab.Folder(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	d := &demonstration{cmd: exec.CommandContext(ctx, lab.Binary, "demo"), dir: dir, out: new(output)}
	d.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + dir}
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	d.cmd.WaitDelay = 30 * time.Second
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *demonstration) wait() error { return d.cmd.Wait() }

func (d *demonstration) nothingLeft(t *testing.T) {
	t.Helper()
	pids, err := running.ProcessesIn(d.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) > 0 {
		t.Errorf("processes %v still work in the demo's folder", pids)
	}
	left, err := filepath.Glob(filepath.Join(d.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("the demo leaves %v", left)
	}
}

// output is what a program printed so far.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
