// Package running builds the fulcrum command and runs it for tests: a real
// process with real stores, in a folder and on ports of its own. Tests reach it
// through its public doors, and look into its database without changing it.
package running

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// command is what is built and run.
const command = "github.com/fulcrum-io/fulcrum/services/fulcrum"

// Full reports whether the long form of the tests was asked for. It runs more
// rounds under more load; what must hold is the same.
func Full() bool { return os.Getenv("FULCRUM_TEST_FULL") != "" }

// Bound is a promise about time. The race detector makes the product some five
// times slower than what promises are made for.
func Bound(d time.Duration) time.Duration {
	if raceDetector() {
		return 5 * d
	}
	return d
}

func raceDetector() bool { return os.Getenv("FULCRUM_TEST_RACE") != "" }

// Lab holds the built command and the folder in which stacks keep their data.
type Lab struct {
	Binary string
	dir    string
}

// Open builds the command. With FULCRUM_TEST_RACE set, it is built with the race
// detector, and a race in it fails the test whose stack it was.
func Open() (*Lab, error) {
	dir, err := os.MkdirTemp("", "fulcrum-test-")
	if err != nil {
		return nil, err
	}
	// PostgreSQL's account has to pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	l := &Lab{Binary: filepath.Join(dir, "fulcrum"), dir: dir}
	args := []string{"build", "-ldflags=-s -w", "-o", l.Binary} // half the time to link
	if raceDetector() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, command)...).CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build %s: %w\n%s", command, err, out), os.RemoveAll(dir))
	}
	return l, nil
}

// Folder makes a folder that every account may pass through. It goes with the
// test.
func (l *Lab) Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "folder-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Close removes the command, and the data of every stack that nobody wants to
// look into.
func (l *Lab) Close() error {
	if err := os.Remove(l.Binary); err != nil {
		return err
	}
	_ = os.Remove(l.dir) // stays while the data of a failed test are in it
	return nil
}

// Main runs the tests of a package with a lab that use gets first. It returns
// the exit code.
func Main(m *testing.M, use func(*Lab), around ...func(run func() int) int) int {
	l, err := Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(l)
	run := m.Run
	for _, wrap := range around {
		inner := run
		run = func() int { return wrap(inner) }
	}
	code := run()
	if err := l.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "close lab:", err)
	}
	return code
}
