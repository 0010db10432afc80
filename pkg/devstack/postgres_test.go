package devstack

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestCommittedRowsSurviveACrash(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{})
	if got := query[string](t, p.URL(), "show fsync"); got != "on" {
		t.Fatalf("fsync is %s", got)
	}
	execute(t, p.URL(), "create table t as select generate_series(1, 1000) n")
	url := p.URL()
	killed := p.cluster().crew().processes(0)

	must(t, p.Kill())
	for _, pid := range killed {
		if !ended(pid) {
			t.Errorf("process %d survives Kill", pid)
		}
	}
	if !exists(filepath.Join(p.cluster().data, "postmaster.pid")) {
		t.Error("a crash leaves postmaster.pid, this Kill did not")
	}
	must(t, p.Restart(testContext(t)))
	if p.URL() != url {
		t.Errorf("URL changed from %s to %s", url, p.URL())
	}
	if n := query[int](t, url, "select count(*) from t"); n != 1000 {
		t.Errorf("%d rows after the crash, want 1000", n)
	}
}

func TestPostgresRestartsAfterStop(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{NoFsync: true})
	execute(t, p.URL(), "create table t (n int)")
	must(t, p.Stop())
	must(t, p.Stop())
	must(t, p.Restart(testContext(t)))
	must(t, p.Restart(testContext(t))) // while it runs
	if n := query[int](t, p.URL(), "select count(*) from t"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestPostgresIsTunedForItsDuty(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{NoFsync: true})
	for name, want := range map[string]string{
		"fsync":                   "off",
		"synchronous_commit":      "off",
		"full_page_writes":        "off",
		"max_connections":         "200",
		"shared_buffers":          "128MB",
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"server_encoding":         "UTF8",
		"password_encryption":     "scram-sha-256",
		"timezone":                "UTC",
	} {
		if got := query[string](t, p.URL(), "show "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	const weak = "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'"
	if n := query[int](t, p.URL(), weak); n != 0 {
		t.Errorf("%d ways in without a password", n)
	}
}

func TestPostgresNeverRunsAsRoot(t *testing.T) {
	t.Parallel()
	// A folder that the server's own account could not enter, as in /root.
	closed := filepath.Join(t.TempDir(), "closed")
	must(t, os.Mkdir(closed, 0o700))
	p := startPostgres(t, PostgresOptions{Dir: filepath.Join(closed, "data"), NoFsync: true})
	pids := p.cluster().crew().processes(0)
	seen := 0
	for _, pid := range pids {
		info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its work was done
		}
		must(t, err)
		seen++
		if uid := owner(info); uid == 0 {
			t.Errorf("process %d runs as root", pid)
		}
	}
	if seen == 0 {
		t.Fatal("no process found")
	}
}
