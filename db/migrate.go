package db

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var files embed.FS

const versionTable = "fulcrum.goose_db_version"

// Migrate brings the database at url up to the newest schema. The role in url
// is a superuser or a member of fulcrum_owner; either way everything made
// belongs to fulcrum_owner. Several callers at once are safe: one works, the
// others wait and find nothing to do.
func Migrate(ctx context.Context, url string) error {
	return withMigrations(ctx, url, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// MigrateDown takes every migration back. It leaves the roles, which other
// databases of the cluster may use, and the schema fulcrum with goose's table.
func MigrateDown(ctx context.Context, url string) error {
	return withMigrations(ctx, url, func(p *goose.Provider) error {
		_, err := p.DownTo(ctx, 0)
		return err
	})
}

func withMigrations(ctx context.Context, url string, do func(*goose.Provider) error) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return errors.New("database address: not a valid connection string")
	}
	if err := prepare(ctx, cfg); err != nil {
		return fmt.Errorf("prepare database %s for migrations: %w", cfg.Database, err)
	}
	conns := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `set role fulcrum_owner; set search_path = pg_catalog; set statement_timeout = 0; set lock_timeout = '10s'`)
		return err
	}))
	defer func() { _ = conns.Close() }() // what mattered has been reported

	p, err := provider(conns)
	if err != nil {
		return err
	}
	if err := do(p); err != nil {
		return fmt.Errorf("migrate database %s: %w", cfg.Database, err)
	}
	return nil
}

func provider(conns *sql.DB) (*goose.Provider, error) {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, conns, migrations,
		goose.WithTableName(versionTable), goose.WithSessionLocker(locker),
		// Services number their migrations in ranges of their own.
		goose.WithAllowOutofOrder(true))
}

// prepare does what comes before the first migration: the roles, the right to
// create schemas, and the schema that goose's own table lives in.
func prepare(ctx context.Context, cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)

	if strong, err := mayCreateRoles(ctx, conn); err != nil {
		return err
	} else if strong {
		if err := ensureRoles(ctx, conn); err != nil {
			return err
		}
		if err := openDatabase(ctx, conn); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `set role fulcrum_owner`); err != nil {
		return fmt.Errorf("become fulcrum_owner (bootstrap first, or grant it to this role): %w", err)
	}
	return persist(ctx, func() error {
		_, err := conn.Exec(ctx, `create schema if not exists fulcrum`)
		return err
	})
}

// Fingerprint names this schema, so a stale test template is never reused.
func Fingerprint() string {
	h := sha256.New()
	_ = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n", path, len(b))
		h.Write(b)
		return err
	})
	fmt.Fprint(h, rolesSQL)
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}
