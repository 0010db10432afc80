package bench

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// AsBatch makes this process one that waits for its turn (SCHED_BATCH, sched(7)),
// until undo: it has as much of the processors as before, but what wakes in it does
// not interrupt others. For a load that shares the processors with what it measures:
// elsewhere it would have its own. Processes that were started before stay as they are.
func AsBatch() (undo func() error, err error) {
	return func() error { return policy(unix.SCHED_NORMAL) }, policy(unix.SCHED_BATCH)
}

// policy sets the policy of every thread; those to come have that of their creator.
func policy(p uint32) error {
	set := make(map[string]bool)
	for before := -1; before < len(set); { // until there is no new one
		before = len(set)
		threads, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			return err
		}
		for _, thread := range threads {
			if set[thread] {
				continue
			}
			id, err := strconv.Atoi(filepath.Base(thread))
			if err != nil {
				return err
			}
			err = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: p}, 0)
			if err != nil && !errors.Is(err, unix.ESRCH) { // one that has ended
				return fmt.Errorf("set the policy of a thread: %w", err)
			}
			set[thread] = true
		}
	}
	return nil
}
