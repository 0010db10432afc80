package db_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// Every migration takes back what it did: up, down and up again ends where up
// ended, in every detail that pg_dump sees.
func TestMigrationsAreReversible(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	up := dump(t, d.AdminURL)
	if err := db.MigrateDown(t.Context(), d.MigrateURL); err != nil {
		t.Fatal(err)
	}
	left := dbtest.Count(t, d, `
		select (select count(*) from pg_class where relnamespace = 'fulcrum'::regnamespace and relkind in ('r','p','v','m','S') and relname not like 'goose_db_version%')
		     + (select count(*) from pg_proc where pronamespace = 'fulcrum'::regnamespace)
		     + (select count(*) from pg_default_acl)
		     + (select count(*) from pg_namespace where nspname = 'metrics')`)
	if left != 0 {
		t.Errorf("down left %d objects:\n%s", left, dump(t, d.AdminURL))
	}
	if err := db.Migrate(t.Context(), d.MigrateURL); err != nil {
		t.Fatal(err)
	}
	if again := dump(t, d.AdminURL); again != up {
		t.Errorf("the second up differs from the first:\n%s", diff(up, again))
	}
}

// Whoever migrates, a superuser of an embedded server or fulcrum_migrate of a
// managed one, the result is the same and belongs to fulcrum_owner.
func TestTheMigratingRoleLeavesNoTrace(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t) // its template was migrated by the superuser
	other := fresh(t, d)
	if err := db.Migrate(t.Context(), at(t, d.MigrateURL, other)); err != nil {
		t.Fatal(err)
	}
	if a, b := dump(t, d.AdminURL), dump(t, at(t, d.AdminURL, other)); a != b {
		t.Errorf("the schemas differ:\n%s", diff(a, b))
	}
	n := dbtest.Count(t, d, `
		select count(*) from pg_class where relnamespace in ('fulcrum'::regnamespace, 'metrics'::regnamespace)
		and relowner::regrole::text not in ('fulcrum_owner', 'metrics_owner')`)
	if n != 0 {
		t.Errorf("%d objects belong to neither fulcrum_owner nor metrics_owner", n)
	}
}

// Instances that start together migrate once.
func TestMigratingAtOnceIsSafe(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	other := fresh(t, d)
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 4 {
		g.Go(func() error {
			if err := db.Bootstrap(ctx, d.AdminURL, db.BootstrapOptions{Database: other}); err != nil {
				return err
			}
			return db.Migrate(ctx, at(t, []string{d.AdminURL, d.MigrateURL}[i%2], other))
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	opened, err := db.Open(t.Context(), at(t, d.AppURL, other), db.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
}

// A database that the server's image made, owned by its superuser, is taken over.
func TestADatabaseMadeBySomebodyElseIsMigrated(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	name := "test_" + strings.ToLower(rand.Text())
	dbtest.Admin(t, d, "create database "+name)
	t.Cleanup(func() { dbtest.Admin(t, d, "drop database "+name+" with (force)") })
	if err := db.Migrate(t.Context(), at(t, d.AdminURL, name)); err != nil {
		t.Fatal(err)
	}
	opened, err := db.Open(t.Context(), at(t, d.AppURL, name), db.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
}

// fresh makes an empty database as Bootstrap does.
func fresh(t *testing.T, d *dbtest.Database) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	if err := db.Bootstrap(t.Context(), d.AdminURL, db.BootstrapOptions{Database: name}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dbtest.Admin(t, d, "drop database "+name+" with (force)") })
	return name
}

func at(t *testing.T, dsn, database string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + database
	return u.String()
}

// noise is what differs between two dumps of the same schema: the key that
// newer versions of pg_dump print, and the number of rows ever given to goose.
var noise = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)

func dump(t *testing.T, dsn string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), pgDump(t, dsn), "--schema-only", "--dbname", dsn)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	return noise.ReplaceAllString(string(out), "")
}

// pgDump finds a pg_dump that is not older than the server.
func pgDump(t *testing.T, dsn string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	major, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), ".")
	major, _, _ = strings.Cut(major, " ")
	for _, pattern := range []string{
		"/usr/lib/postgresql/" + major + "/bin/pg_dump", "/usr/pgsql-" + major + "/bin/pg_dump",
		"/opt/homebrew/opt/postgresql@" + major + "/bin/pg_dump", "/usr/local/opt/postgresql@" + major + "/bin/pg_dump",
	} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	path, err := exec.LookPath("pg_dump")
	if err != nil {
		t.Fatalf("no pg_dump of version %s: install the postgresql client", major)
	}
	return path
}

// diff lists lines that only one of the two has.
func diff(a, b string) string {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out []string
	for _, line := range left {
		if !slices.Contains(right, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range right {
		if !slices.Contains(left, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out[:min(len(out), 40)], "\n")
}
