package db

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed roles.sql
var rolesSQL string

// BootstrapOptions say what Bootstrap makes. A password left empty is not
// touched.
type BootstrapOptions struct {
	Database          string // created, owned by fulcrum_owner, unless it exists; empty: roles only
	AppPassword       string
	MigratePassword   string
	RetentionPassword string
	BackupPassword    string
}

// Bootstrap makes roles and database on a new server. adminURL names a
// superuser, or on a managed server a role that may create roles and databases.
// It changes nothing that is already right and may run at every start.
func Bootstrap(ctx context.Context, adminURL string, o BootstrapOptions) error {
	cfg, err := pgx.ParseConfig(adminURL)
	if err != nil {
		return errors.New("admin address: not a valid connection string")
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	defer hangUp(ctx, conn)

	if err := ensureRoles(ctx, conn); err != nil {
		return fmt.Errorf("bootstrap roles: %w", err)
	}
	for role, password := range map[string]string{
		"fulcrum_app":       o.AppPassword,
		"fulcrum_migrate":   o.MigratePassword,
		"fulcrum_retention": o.RetentionPassword,
		"fulcrum_backup":    o.BackupPassword,
	} {
		if err := setPassword(ctx, conn, role, password); err != nil {
			return fmt.Errorf("bootstrap: set password of %s: %w", role, err)
		}
	}
	if o.Database == "" {
		return nil
	}
	if err := ensureDatabase(ctx, conn, o.Database); err != nil {
		return fmt.Errorf("bootstrap database %s: %w", o.Database, err)
	}

	cfg.Database = o.Database
	inside, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("bootstrap database %s: %w", o.Database, err)
	}
	defer hangUp(ctx, inside)
	if err := openDatabase(ctx, inside); err != nil {
		return fmt.Errorf("bootstrap database %s: %w", o.Database, err)
	}
	return nil
}

func mayCreateRoles(ctx context.Context, conn *pgx.Conn) (yes bool, err error) {
	err = conn.QueryRow(ctx, `select rolsuper or rolcreaterole from pg_catalog.pg_roles where rolname = current_user`).Scan(&yes)
	return yes, err
}

// ensureRoles retries: two databases' set-ups may touch the same role at once,
// which Postgres reports as "tuple concurrently updated".
func ensureRoles(ctx context.Context, conn *pgx.Conn) error {
	return persist(ctx, func() error {
		_, err := conn.Exec(ctx, rolesSQL)
		return err
	})
}

func setPassword(ctx context.Context, conn *pgx.Conn, role, password string) error {
	if password == "" {
		return nil
	}
	var statement string
	if err := conn.QueryRow(ctx, `select format('alter role %I password %L', $1::text, $2::text)`, role, password).Scan(&statement); err != nil {
		return err
	}
	return persist(ctx, func() error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
}

func ensureDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_catalog.pg_database where datname = $1)`, name).Scan(&there); err != nil || there {
		return err
	}
	// Only a member may give a database to another role; a superuser is one already.
	if _, err := conn.Exec(ctx, `do $$ begin if not pg_has_role('fulcrum_owner', 'member') then execute format('grant fulcrum_owner to %I', current_user); end if; end $$`); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" owner fulcrum_owner")
	if code(err) == "42P04" { // another caller was faster
		return nil
	}
	return err
}

// openDatabase lets fulcrum_owner create schemas, keeps everybody else from
// creating anything, and adds TimescaleDB where the server has it loaded.
func openDatabase(ctx context.Context, conn *pgx.Conn) error {
	return persist(ctx, func() error {
		_, err := conn.Exec(ctx, `do $$
declare
    d text := current_database();
begin
    if not has_database_privilege('fulcrum_owner', d, 'create') then
        execute format('grant create, connect on database %I to fulcrum_owner', d);
    end if;
    if not has_database_privilege('fulcrum_app', d, 'connect') then
        execute format('grant connect on database %I to fulcrum_app, fulcrum_migrate, fulcrum_retention, fulcrum_backup', d);
    end if;
    if has_schema_privilege('fulcrum_app', 'public', 'create') then
        revoke create on schema public from public;
    end if;
    if current_setting('shared_preload_libraries') like '%timescaledb%' then
        create extension if not exists timescaledb;
    end if;
end
$$`)
		return err
	})
}

// persist repeats what lost a race against another set-up of the same cluster.
func persist(ctx context.Context, do func() error) error {
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := do()
		if err == nil || wait > time.Second || !raced(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func raced(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "XX000": // tuple concurrently updated, the only way Postgres says it
		return strings.Contains(pg.Message, "concurrently")
	case "23505", "42710", "40P01": // created at the same moment
		return true
	}
	return false
}

// hangUp closes a connection of our own. Whatever it says, the work is done.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	_ = conn.Close(context.WithoutCancel(ctx))
}
