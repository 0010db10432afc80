package devstack

import (
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

// killLimit bounds the wait for killed processes to be gone.
const killLimit = 10 * time.Second

// crew is every process of one server, also of one whose owner is long dead.
// They are known by the folder they work in and the program they run: a
// person's shell may be in the folder as well.
type crew struct {
	program, folder string
}

// kill kills the crew, waits until none is left, and reports whether there was
// one. lead, if not 0, is known to be the parent of the rest.
func (c crew) kill(lead int) (found bool, err error) {
	deadline := time.Now().Add(killLimit)
	var dying []int
	for {
		pids := c.processes(lead)
		// One that ends leaves its folder a moment before it is gone.
		dying = slices.DeleteFunc(append(dying, pids...), ended)
		if len(dying) == 0 {
			return found, nil
		}
		if time.Now().After(deadline) {
			return true, fmt.Errorf("processes %v of %s survive SIGKILL", dying, c.folder)
		}
		found = true
		// The parent comes first, so that it does not answer the death of a
		// child by restarting the rest.
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // fails only if it has just ended
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// processes lists the crew, the lead first.
func (c crew) processes(lead int) []int {
	if _, err := os.Stat("/proc/self/cwd"); err != nil {
		return c.search(lead)
	}
	var pids []int
	if lead != 0 && c.includes(lead) {
		pids = append(pids, lead)
	}
	entries, _ := os.ReadDir("/proc") // what it could read before an error
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != lead && c.includes(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c crew) includes(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err != nil || cwd != c.folder {
		return false
	}
	name, err := os.ReadFile(filepath.Join(proc, "comm"))
	return err == nil && strings.TrimSpace(string(name)) == c.program
}

// search is for systems without /proc, and finds less: a lead that has the
// folder on its command line, and the children of a lead that lives.
func (c crew) search(lead int) []int {
	args := []string{"-P", strconv.Itoa(lead)}
	if lead == 0 {
		args = []string{"-f", c.program + " .*" + c.folder}
	}
	out, _ := exec.Command("pgrep", args...).Output() // fails when there is none
	var pids []int
	if lead != 0 && alive(lead) {
		pids = append(pids, lead)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
