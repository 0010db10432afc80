package bench

import (
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// policies counts this process' threads by policy.
func policies(t *testing.T) map[uint32]int {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[uint32]int)
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			t.Fatal(err)
		}
		if attr, err := unix.SchedGetAttr(id, 0); err == nil {
			count[attr.Policy]++
		}
	}
	return count
}

func TestEveryThreadWaitsForItsTurnUntilUndone(t *testing.T) {
	undo, err := AsBatch()
	if err != nil {
		t.Fatal(err)
	}
	if got := policies(t); got[unix.SCHED_BATCH] == 0 || len(got) != 1 {
		t.Errorf("threads by policy: %v, want all of %d", got, unix.SCHED_BATCH)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if got := policies(t); got[unix.SCHED_NORMAL] == 0 || len(got) != 1 {
		t.Errorf("threads by policy afterwards: %v, want all of %d", got, unix.SCHED_NORMAL)
	}
}
