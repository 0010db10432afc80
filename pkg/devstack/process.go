package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a child under guard, with its output in a file.
type process struct {
	pid  int
	log  string
	done chan struct{} // closed when the child has been reaped
	how  string        // it ended; read only after done
}

// startProcess starts cmd with its output in the file log; the output of the
// start before is kept beside it.
func startProcess(cmd *exec.Cmd, log string, g *guard) (*process, error) {
	if err := os.Rename(log, log+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	// Its own group: Ctrl-C is for us, who stop the servers last.
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, err
	}

	p := &process{pid: cmd.Process.Pid, log: log, done: make(chan struct{})}
	watched := g.watch(p.pid)
	go func() {
		_ = cmd.Wait() // it has no copying of ours to fail in
		p.how = cmd.ProcessState.String()
		// A guard that cannot be told is dead, and so no danger to the next
		// process with this number.
		_ = g.forget(p.pid)
		close(p.done)
	}()
	if watched != nil {
		p.stop(syscall.SIGKILL, 10*time.Second)
		return nil, watched
	}
	return p, nil
}

// running reports whether the child still runs.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop sends one signal and reports whether the child ended within limit.
func (p *process) stop(signal syscall.Signal, limit time.Duration) bool {
	if !p.running() {
		return true
	}
	_ = syscall.Kill(p.pid, signal) // fails only if it has just ended
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-p.done:
		return true
	case <-late.C:
		return false
	}
}

// tail returns the last lines of the child's output, indented.
func (p *process) tail() string { return tail(p.log) }

func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return fmt.Sprintf("\t(no log: %v)", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-15):]
	return "\t" + strings.Join(lines, "\n\t")
}
