package devstack

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestKeptFolderKeepsPasswordsAndData(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	o := Options{Dir: filepath.Join(t.TempDir(), "kept"), NoFsync: true}
	s, err := Start(ctx, o)
	must(t, err)
	t.Cleanup(func() { check(t, s.Stop()) })
	execute(t, s.PostgresURL, "create table t (n int)")
	for _, server := range []string{"postgres", "redis", "nats"} {
		info, err := os.Stat(filepath.Join(o.Dir, server+".password"))
		must(t, err)
		if info.Mode() != 0o600 {
			t.Errorf("mode of %s is %v", info.Name(), info.Mode())
		}
	}
	must(t, s.Stop())

	again, err := Start(ctx, o)
	must(t, err)
	t.Cleanup(func() { check(t, again.Stop()) })
	if n := query[int](t, again.PostgresURL, "select count(*) from t"); n != 0 {
		t.Errorf("%d rows", n)
	}
	for _, urls := range [][2]string{
		{s.PostgresURL, again.PostgresURL}, {s.RedisURL, again.RedisURL}, {s.NATSURL, again.NATSURL},
	} {
		before, _, _ := strings.Cut(urls[0], "@")
		after, _, _ := strings.Cut(urls[1], "@")
		if before != after {
			t.Errorf("credentials changed from %s to %s", before, after)
		}
	}
}

func TestFolderInUseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := StartNATS(NATSOptions{Dir: dir})
	must(t, err)
	_, err = Start(testContext(t), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "in use by process "+strconv.Itoa(os.Getpid())) {
		t.Fatalf("error %v, want one that names the owner", err)
	}
	must(t, n.Stop())
	f, err := lockFolder(testContext(t), dir) // free again
	must(t, err)
	f.Close()
}

// Whoever starts a program has, for a moment, two copies of all that is open. The
// folder that was given up in that moment is waited for, and not called in use.
func TestAFolderIsFreeOnceCopiesOfItsLockAreClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := lockFolder(testContext(t), dir)
	must(t, err)
	fd, err := syscall.Dup(int(f.Fd()))
	must(t, err)
	must(t, unlock(f))
	next := make(chan error, 1)
	go func() {
		f, err := lockFolder(testContext(t), dir)
		if err == nil {
			err = unlock(f)
		}
		next <- err
	}()
	select {
	case err := <-next:
		t.Fatalf("with a copy of its lock open the folder was not waited for: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	must(t, syscall.Close(fd))
	must(t, <-next)
}

func TestSecondStopLeavesTheNextOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startPostgres(t, PostgresOptions{Dir: dir, NoFsync: true})
	must(t, first.Stop())
	next := startPostgres(t, PostgresOptions{Dir: dir, NoFsync: true})
	must(t, first.Stop())
	must(t, first.Kill())
	query[int](t, next.URL(), "select 1")
}

// PostgreSQL takes whatever runs under the number in its file for itself.
func TestStalePidFileDoesNotStopAStart(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{Dir: t.TempDir(), NoFsync: true})
	must(t, p.Stop())
	stale := strconv.Itoa(os.Getpid()) + "\n" + p.cluster().data + "\n"
	must(t, os.WriteFile(filepath.Join(p.cluster().data, "postmaster.pid"), []byte(stale), 0o600))
	must(t, p.Restart(testContext(t)))
}

func TestHalfMadeFolderIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "postgres", "data.new", "base"), 0o700))
	p := startPostgres(t, PostgresOptions{Dir: dir, NoFsync: true})
	query[int](t, p.URL(), "select 1")
}

func TestFailedStartShowsTheEndOfTheLog(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{Dir: t.TempDir(), NoFsync: true})
	must(t, p.Stop())
	must(t, os.WriteFile(filepath.Join(p.cluster().data, "postgresql.conf"), []byte("nonsense = 1\n"), 0o600))
	must(t, p.cluster().account.own(filepath.Join(p.cluster().data, "postgresql.conf")))
	err := p.Restart(testContext(t))
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "nonsense"`) {
		t.Errorf("error %v, want PostgreSQL's own words", err)
	}
}

func owner(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
