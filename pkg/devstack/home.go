package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// home is the folder of one running stack. While it is open, a lock keeps
// every other stack out and a guard cleans up should this process die.
type home struct {
	dir       string
	temporary bool

	mu    sync.Mutex // guards lock and guard, nil while closed
	lock  *os.File
	guard *guard
}

// openHome opens dir, made if need be, or a new temporary folder if dir is
// empty. A folder in use by a living process is refused.
func openHome(ctx context.Context, dir string) (*home, error) {
	h := &home{temporary: dir == ""}
	var err error
	if h.temporary {
		h.dir, err = os.MkdirTemp("", "fulcrum-stack-")
	} else if h.dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(h.dir, 0o700)
	}
	if err == nil {
		// The kernel names the folder like this, and we compare.
		h.dir, err = filepath.EvalSymlinks(h.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	if h.temporary && os.Geteuid() == 0 {
		// PostgreSQL's account has to pass through; it need not look around.
		err = os.Chmod(h.dir, 0o711)
	}
	if err = errors.Join(err, h.open(ctx)); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// open takes the lock and starts the guard, unless the home is already open.
func (h *home) open(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.guard != nil {
		return nil
	}
	lock, err := lockFolder(ctx, h.dir)
	if err != nil {
		return err
	}
	doomed := ""
	if h.temporary {
		doomed = h.dir
	}
	g, err := startGuard(doomed, lock)
	if err != nil {
		return errors.Join(err, unlock(lock))
	}
	h.lock, h.guard = lock, g
	return nil
}

// close gives the folder up, and removes it if it is temporary. The servers in
// it must have stopped. Closing twice does nothing.
func (h *home) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	if h.temporary {
		errs = append(errs, os.RemoveAll(h.dir))
	}
	if h.guard != nil {
		// The guard shares the lock: it has to be gone before the folder is free.
		errs = append(errs, h.guard.dismiss(), unlock(h.lock))
		h.guard, h.lock = nil, nil
	}
	return errors.Join(errs...)
}

// watcher returns the guard of an open home.
func (h *home) watcher() *guard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guard
}

// folder makes and returns the folder name inside h.
func (h *home) folder(name string) (string, error) {
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	return path, nil
}

// password returns the password kept for a server in h, making it on first use.
func (h *home) password(server string) (string, error) {
	path := filepath.Join(h.dir, server+".password")
	kept, err := os.ReadFile(path)
	if err == nil && len(kept) > 0 {
		return strings.TrimSpace(string(kept)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read password of %s: %w", server, err)
	}
	fresh := rand.Text()
	if err := os.WriteFile(path, []byte(fresh+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep password of %s: %w", server, err)
	}
	return fresh, nil
}
