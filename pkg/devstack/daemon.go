package devstack

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// startLimit bounds a start whose context has no earlier deadline.
const startLimit = time.Minute

// program is what daemon needs to know of a server.
type program interface {
	prepare(ctx context.Context) error // before each start, nothing running
	command(port int) *exec.Cmd
	ready(ctx context.Context, port int) error // nil once it serves
	halt(p *process) error                     // orderly, all of it gone on return
	kill(p *process) error                     // at once, all of it gone on return
}

// daemon keeps one server program: its port stays the same over restarts.
type daemon struct {
	name    string
	program program
	home    *home
	alone   bool // the home is this daemon's only

	mu   sync.Mutex // held for all of start, stop and kill; guards port and proc
	port int
	proc *process // nil before the first start and after stop
}

func (d *daemon) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc != nil {
		if err := d.program.halt(d.proc); err != nil {
			return err
		}
	}
	if err := d.home.open(ctx); err != nil {
		return err
	}
	err := d.program.prepare(ctx)
	if err == nil {
		d.port, err = onPort(d.port, func(port int) error { return d.launch(ctx, port) })
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	return nil
}

// stop is idempotent. A kept folder is free afterwards; a temporary one stays
// for a restart, and goes with the stack or this process.
func (d *daemon) stop() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc != nil {
		if err := d.program.halt(d.proc); err != nil {
			return err
		}
		// Never again: what runs in a kept folder from now on is somebody else's.
		d.proc = nil
	}
	if d.alone && !d.home.temporary {
		return d.home.close()
	}
	return nil
}

func (d *daemon) kill() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc == nil {
		return nil
	}
	return d.program.kill(d.proc)
}

func (d *daemon) launch(ctx context.Context, port int) error {
	if err := checkPort(port); err != nil {
		return err
	}
	return d.serve(ctx, port)
}

// serve is launch without the look at the port before.
func (d *daemon) serve(ctx context.Context, port int) error {
	log := filepath.Join(d.home.dir, strings.ToLower(d.name)+".log")
	p, err := startProcess(d.program.command(port), log, d.home.watcher())
	if err != nil {
		return err
	}
	d.proc = p
	if err := d.await(ctx, p, port); err != nil {
		return errors.Join(err, d.program.kill(p))
	}
	return nil
}
