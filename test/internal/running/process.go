package running

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child that does not outlive the tests, whatever ends them.
type process struct {
	pid   int
	guard *os.File      // its end makes the guard kill the child
	ended chan struct{} // closed when the child has been reaped; guards err
	err   error
}

// guardScript waits for the end of the tests: standard input is a pipe that
// only they hold.
const guardScript = `cat >/dev/null; kill -s TERM "$1" 2>/dev/null`

// launch starts cmd with its output appended to the file log.
func launch(cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for the tests, which stop it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, ended: make(chan struct{})}
	guard, end, err := startGuard(p.pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	p.guard = end
	go func() {
		p.err = cmd.Wait()
		_ = guard.Process.Kill() // before the number is anybody else's
		_ = guard.Wait()
		_ = p.guard.Close()
		close(p.ended)
	}()
	return p, nil
}

func startGuard(pid int) (*exec.Cmd, *os.File, error) {
	in, end, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	cmd := exec.Command("/bin/sh", "-c", guardScript, "fulcrum-test-guard", strconv.Itoa(pid))
	cmd.Stdin = in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(err, end.Close())
	}
	return cmd, end, nil
}

// tree is the process and all its descendants.
func (p *process) tree() []int { return descendants(p.pid) }

// killTree kills the process and all its descendants, and returns when they are
// gone. The parents come first, so that none can tidy up after its child.
func (p *process) killTree() {
	crew := p.tree()
	for _, pid := range crew {
		_ = syscall.Kill(pid, syscall.SIGKILL) // fails only if it has just ended
	}
	<-p.ended
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = awaitGone(ctx, crew) // nothing survives SIGKILL but a process in the kernel
}

// descendants returns pid and everything it has started, parents first.
func descendants(pid int) []int {
	parents := parents()
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		for child, parent := range parents {
			if parent == tree[i] && !slices.Contains(tree, child) {
				tree = append(tree, child)
			}
		}
	}
	return tree
}

// parents maps every process to its parent.
func parents() map[int]int {
	found := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if fields := statFields(pid); len(fields) > 1 {
			found[pid], _ = strconv.Atoi(fields[1])
		}
	}
	if len(stats) > 0 {
		return found
	}
	out, _ := exec.Command("ps", "-axo", "pid=,ppid=").Output() // where there is no /proc
	for line := range strings.Lines(string(out)) {
		var pid, parent int
		if _, err := fmt.Sscan(line, &pid, &parent); err == nil {
			found[pid] = parent
		}
	}
	return found
}

// statFields are the fields of /proc/<pid>/stat after the name: state, parent…
func statFields(pid int) []string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// gone reports whether a process runs no more. One that nobody has collected,
// as in a container without an init, does not run.
func gone(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return true
	}
	fields := statFields(pid)
	return len(fields) > 0 && (fields[0] == "Z" || fields[0] == "X")
}

func awaitGone(ctx context.Context, pids []int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for pids = slices.DeleteFunc(pids, gone); len(pids) > 0; pids = slices.DeleteFunc(pids, gone) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v are still there: %w", pids, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// ProcessesIn lists the living processes that work in a folder or below it, or
// have it on their command line; only those of one program, if it is named.
func ProcessesIn(folder, program string) ([]int, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, err
	}
	var found []int
	for pid := range parents() {
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil {
			out, _ := exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output() // where there is no /proc
			line = out
		}
		if !strings.HasPrefix(cwd, folder) && !bytes.Contains(line, []byte(folder)) || gone(pid) {
			continue
		}
		if program == "" || nameOf(pid) == program {
			found = append(found, pid)
		}
	}
	return found, nil
}
