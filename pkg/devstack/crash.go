package devstack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// destroy kills what runs on the data, if anything does. postmaster is the
// parent of it all, 0 if unknown.
func (c *cluster) destroy(postmaster int) error {
	found, err := c.crew().kill(postmaster)
	if err == nil && found {
		c.removeSharedMemory()
	}
	return err
}

// crew is known by the data folder: PostgreSQL's processes work in it.
func (c *cluster) crew() crew { return crew{program: "postgres", folder: c.data} }

// removeSharedMemory gives back the segment that a killed cluster leaves in the
// kernel. PostgreSQL finds it by itself when it starts on the same folder again,
// but a temporary folder has no again.
func (c *cluster) removeSharedMemory() {
	text, err := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	if err != nil {
		return // killed before it wrote any
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return
	}
	if key := strings.Fields(lines[6]); len(key) == 2 {
		_ = exec.Command("ipcrm", "-m", key[1]).Run() // else a few bytes until the next boot
	}
}

// reaped waits until a killed child has left the process table.
func reaped(p *process) error {
	select {
	case <-p.done:
		return nil
	case <-time.After(killLimit):
		return fmt.Errorf("process %d survives SIGKILL", p.pid)
	}
}
