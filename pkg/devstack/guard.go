package devstack

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

//go:embed guard.sh
var guardScript string

// guard is a small shell process that outlives this one by as long as it takes
// to stop the servers and remove a temporary folder. It learns of our death from
// a pipe, whatever killed us; a parent-death signal exists on Linux only, and
// would leave the folder.
type guard struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// startGuard starts a guard that removes the folder doomed, if not empty, and
// holds lock until it is done.
func startGuard(doomed string, lock *os.File) (*guard, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	defer in.Close()
	cmd := exec.Command("/bin/sh", "-c", guardScript, "fulcrum-devstack-guard", doomed)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Stdin = in
	cmd.ExtraFiles = []*os.File{lock}
	// Apart from the terminal: Ctrl-C in the terminal is not for the guard.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start guard: %w", err), out.Close())
	}
	return &guard{cmd: cmd, pipe: out}, nil
}

// watch puts pid under guard.
func (g *guard) watch(pid int) error { return g.say("watch %d\n", pid) }

// forget must follow as soon as pid has ended, before the number is used again.
func (g *guard) forget(pid int) error { return g.say("forget %d\n", pid) }

// dismiss ends the guard without any cleaning up.
func (g *guard) dismiss() error {
	return errors.Join(g.say("dismiss\n"), g.pipe.Close(), g.cmd.Wait())
}

func (g *guard) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(g.pipe, format, args...); err != nil {
		return fmt.Errorf("tell guard: %w", err)
	}
	return nil
}
