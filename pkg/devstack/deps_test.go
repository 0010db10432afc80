package devstack

import (
	"os/exec"
	"testing"
)

// make runs the script before everything else: it may not be noticed, and must
// agree with Start on what is there.
func TestDepsScriptIsSilentWhereTheStackStarts(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("/bin/sh", "../../deploy/install/deps.sh").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("error %v, output:\n%s", err, out)
	}
}
