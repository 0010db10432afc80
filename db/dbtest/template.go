package dbtest

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
)

// password is every test role's; the server is a test's server.
const password = "fulcrum-test"

var templateName = "fulcrum_template_" + db.Fingerprint()

var (
	templateMu    sync.Mutex // guards templateReady
	templateReady bool
)

// template migrates once per schema, across every test binary running now.
func template(admin string) error {
	templateMu.Lock()
	defer templateMu.Unlock()
	if templateReady {
		return nil
	}
	if err := build(admin); err != nil {
		return err
	}
	templateReady = true
	return nil
}

// build works under another name and renames, so a half-built template is never
// cloned.
func build(admin string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // and with it the lock

	// One lock for all schemas: roles and their passwords are of the cluster.
	if _, err := conn.Exec(ctx, `select pg_advisory_lock(hashtext('fulcrum dbtest'))`); err != nil {
		return err
	}
	var built bool
	row := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, templateName)
	if err := row.Scan(&built); err != nil || built {
		return err
	}
	draft := templateName + "_draft"
	if _, err := conn.Exec(ctx, "drop database if exists "+draft+" with (force)"); err != nil {
		return err
	}
	if err := db.Bootstrap(ctx, admin, db.BootstrapOptions{
		Database: draft, AppPassword: password, MigratePassword: password, RetentionPassword: password, BackupPassword: password,
	}); err != nil {
		return err
	}
	if err := db.Migrate(ctx, at(admin, draft).AdminURL); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "alter database "+draft+" rename to "+templateName)
	return err
}
