package devstack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// With this variable set, the test binary is an owner of a stack that is killed
// before it can stop it. The value is the folder; "temporary" for none.
const ownerVariable = "DEVSTACK_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerVariable); dir != "" {
		ownStack(dir)
	}
	os.Exit(m.Run())
}

// owned is what the owner tells about its stack.
type owned struct {
	Dir, PostgresURL string
	Pids             []int
	Guard            int
}

func ownStack(dir string) {
	if dir == "temporary" {
		dir = ""
	}
	s, err := Start(context.Background(), Options{Dir: dir, NoFsync: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	guard := s.Postgres.daemon.home.guard.cmd.Process.Pid
	_ = json.NewEncoder(os.Stdout).Encode(owned{s.Dir, s.PostgresURL, s.pids(), guard})
	select {}
}

// startOwner returns another process with a stack.
func startOwner(t *testing.T, dir string) (*exec.Cmd, owned) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ownerVariable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	must(t, err)
	var o owned
	must(t, json.Unmarshal(line, &o))
	return cmd, o
}

func TestServersDieWithTheirOwner(t *testing.T) {
	t.Parallel()
	owner, stack := startOwner(t, "temporary")
	must(t, owner.Process.Kill())
	for _, pid := range append(stack.Pids, stack.Guard) {
		eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return ended(pid) })
	}
	if exists(stack.Dir) {
		t.Errorf("%s is left", stack.Dir)
	}
}

func TestFolderOfAKilledOwnerCanBeUsedAtOnce(t *testing.T) {
	t.Parallel()
	owner, stack := startOwner(t, filepath.Join(t.TempDir(), "kept"))
	execute(t, stack.PostgresURL, "create table t (n int)")
	must(t, owner.Process.Kill())
	_, _ = owner.Process.Wait()
	p := startPostgres(t, PostgresOptions{Dir: stack.Dir, NoFsync: true})
	if n := query[int](t, p.URL(), "select count(*) from t"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// The worst case: nobody is left who knows of the servers.
func TestOrphansAreStoppedByTheNextStart(t *testing.T) {
	t.Parallel()
	owner, stack := startOwner(t, filepath.Join(t.TempDir(), "kept"))
	execute(t, stack.PostgresURL, "create table t (n int)", "checkpoint")
	must(t, syscall.Kill(stack.Guard, syscall.SIGKILL))
	must(t, owner.Process.Kill())
	_, _ = owner.Process.Wait()

	s, err := Start(testContext(t), Options{Dir: stack.Dir, NoFsync: true})
	must(t, err)
	t.Cleanup(func() { check(t, s.Stop()) })
	for _, pid := range stack.Pids {
		if !ended(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	if n := query[int](t, s.PostgresURL, "select count(*) from t"); n != 0 {
		t.Errorf("%d rows", n)
	}
}
