package db_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// The schema as migrated has no hole, or no service would start.
func TestTheSchemaPassesItsOwnLint(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	found, err := db.Lint(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
	opened, err := db.Open(t.Context(), d.AppURL, db.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
}

// A service must not start where a mistake in its code could reach every
// tenant. It says so within two seconds, naming the fault.
func TestTheGateRefusesARoleThatIsTooStrong(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	for name, tt := range map[string]struct {
		url  string
		want string
	}{
		"superuser":        {d.AdminURL, "is a superuser"},
		"migration role":   {d.MigrateURL, "member of fulcrum_owner"},
		"owner of a table": {role(t, d, "in role fulcrum_app", "alter table fulcrum.inbox owner to %s"), "owns fulcrum.inbox"},
		"bypassrls":        {role(t, d, "bypassrls in role fulcrum_app"), "has BYPASSRLS"},
		"createrole":       {role(t, d, "createrole in role fulcrum_app"), "has CREATEROLE"},
		"replication":      {role(t, d, "replication in role fulcrum_app"), "has REPLICATION"},
		"reads all":        {role(t, d, "in role fulcrum_app, pg_read_all_data"), "member of pg_read_all_data"},
		"backup":           {role(t, d, "in role fulcrum_app, fulcrum_backup"), "member of fulcrum_backup"},
		"scout":            {role(t, d, "in role fulcrum_app, fulcrum_scout"), "member of fulcrum_scout"},
		"a stranger":       {role(t, d, ""), "is not fulcrum_app"},
	} {
		t.Run(name, func(t *testing.T) {
			started := time.Now()
			opened, err := db.Open(t.Context(), tt.url, db.Options{})
			if err == nil {
				opened.Close()
				t.Fatal("it was let in")
			}
			var refusal *db.Refusal
			if !errors.As(err, &refusal) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
			if took := time.Since(started); took > 2*time.Second {
				t.Errorf("the refusal took %s", took)
			}
		})
	}
}

func TestTheGateRefusesASchemaWithAHole(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	dbtest.Admin(t, d, `alter table fulcrum.outbox no force row level security`)
	_, err := db.Open(t.Context(), d.AppURL, db.Options{})
	if err == nil || !strings.Contains(err.Error(), "force: fulcrum.outbox") {
		t.Errorf("got %v, want the table to be named", err)
	}
}

func TestTheGateRefusesASchemaThatLacksMigrations(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	dbtest.Admin(t, d, `delete from fulcrum.goose_db_version where version_id = 3`)
	_, err := db.Open(t.Context(), d.AppURL, db.Options{})
	if err == nil || !strings.Contains(err.Error(), "migrations pending: 00003_tenant_functions") {
		t.Errorf("got %v, want the migration to be named", err)
	}
}

// A service that can work from a cache starts without the server; the gate is
// passed, or not, when there is one.
func TestTheGateWaitsForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	away := proxy(t, d.AppURL)
	away.stop()
	if _, err := db.Open(t.Context(), away.url, db.Options{}); !db.Unavailable(err) {
		t.Fatalf("got %v, want Unavailable", err)
	}
	opened, err := db.Open(t.Context(), away.url, db.Options{StartWithoutServer: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	nothing := func(context.Context, db.Tx) error { return nil }
	if err := opened.WithTenant(t.Context(), uuid.New(), nothing); !db.Unavailable(err) {
		t.Fatalf("got %v, want Unavailable", err)
	}
	dbtest.Admin(t, d, `alter table fulcrum.outbox no force row level security`)
	away.start(t)
	var refusal *db.Refusal
	for deadline := time.Now().Add(90 * time.Second); ; {
		err = opened.Ping(t.Context())
		if errors.As(err, &refusal) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v, want the refusal", err)
		}
	}
	if err := opened.WithTenant(t.Context(), uuid.New(), nothing); !errors.As(err, &refusal) {
		t.Errorf("got %v, want every call refused", err)
	}
}

// A server that accepts and says nothing must not hold up a start.
func TestTheGateGivesUpOnASilentServer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	started := time.Now()
	_, err = db.Open(t.Context(), "postgres://fulcrum_app@"+ln.Addr().String()+"/x?sslmode=disable", db.Options{})
	if !db.Unavailable(err) || time.Since(started) > 3*time.Second {
		t.Errorf("got %v after %s", err, time.Since(started))
	}
}

func TestABadAddressDoesNotPrintItsPassword(t *testing.T) {
	t.Parallel()
	_, err := db.Open(t.Context(), "postgres://u:hunter2@h:notaport/x", db.Options{})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// role makes a login role for the test and returns its address. Roles are of
// the cluster, so it goes away with the test.
func role(t *testing.T, d *dbtest.Database, options string, more ...string) string {
	t.Helper()
	name := "test_role_" + strings.ToLower(rand.Text())
	dbtest.Admin(t, d, "create role "+name+" login password 'p' "+options)
	t.Cleanup(func() { dbtest.Admin(t, d, "drop owned by "+name, "drop role "+name) })
	for _, sql := range more {
		dbtest.Admin(t, d, strings.ReplaceAll(sql, "%s", name))
	}
	u, err := url.Parse(d.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "p")
	return u.String()
}
