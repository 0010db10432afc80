package devstack

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// testContext bounds one test.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startPostgres(t *testing.T, o PostgresOptions) *Postgres {
	t.Helper()
	p, err := StartPostgres(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, p.Stop()) })
	return p
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// query runs one statement on a fresh connection and returns its only value.
func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, url)
	must(t, err)
	defer conn.Close(ctx)
	var v T
	must(t, conn.QueryRow(ctx, sql).Scan(&v))
	return v
}

func execute(t *testing.T, url string, statements ...string) {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, url)
	must(t, err)
	defer conn.Close(ctx)
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		must(t, err)
	}
}

// cluster returns the server behind p.
func (p *Postgres) cluster() *cluster { return p.daemon.program.(*cluster) }

// pids are all processes of the stack but its guard.
func (s *Stack) pids() []int {
	return append(s.Postgres.cluster().crew().processes(s.Postgres.daemon.proc.pid), s.Redis.daemon.proc.pid)
}

// eventually waits for something that happens in another process, where no
// channel reaches.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx := testContext(t)
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("still not so: %s", what)
		case <-retry.C:
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
