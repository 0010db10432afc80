package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cleanupLimit bounds the wait for a dead owner's guard to clean up.
const cleanupLimit = 30 * time.Second

// lockFolder makes this process the owner of dir until the returned file, and
// every copy of it that a child holds, is closed. A folder whose owner lives is
// refused at once; one whose owner died is free when its guard is done.
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := acquire(ctx, f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data folder %s: %w", dir, err), f.Close())
	}
	return f, nil
}

func acquire(ctx context.Context, f *os.File) error {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return sign(f)
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if owner := signature(f); alive(owner) {
			return fmt.Errorf("in use by process %d: stop that one first, or choose another folder", owner)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("its last owner is gone but its servers are not: %w", context.Cause(ctx))
		case <-retry.C:
		}
	}
}

// sign writes who owns the lock, for the error that the next one gets.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// unlock gives the folder up. A child that is being started holds a copy of f for
// a moment longer; without the owner's name whoever comes next waits for that,
// and is not told that the folder is in use.
func unlock(f *os.File) error { return errors.Join(f.Truncate(0), f.Close()) }

// signature returns the owner's process id. Just after the lock was taken, and
// just before it is free, there is none: then it is 0, which counts as dead, and
// the caller asks again.
func signature(f *os.File) int {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}
