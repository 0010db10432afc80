package db

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

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
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		defer hangUp(ctx, conn) // and so lets the next one in
		err = prepare(ctx, conn)
	}
	if err != nil {
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

// enter waits until nobody else migrates this database, and keeps others out for
// as long as conn is open. goose has a lock of its own, but looks for its table,
// and makes it, before it takes that: two of them then leave it with a sequence
// of another name, or fail. It asks again and again, since a statement that waits
// would keep others from building an index concurrently.
func enter(ctx context.Context, conn *pgx.Conn) error {
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		var ours bool
		err := conn.QueryRow(ctx, `select pg_try_advisory_lock(hashtextextended('fulcrum migrations', 0))`).Scan(&ours)
		if err != nil || ours {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-retry.C:
		}
	}
}

// prepare does what comes before the first migration, alone: the roles, the right to
// create schemas, and the schema that goose's own table lives in.
func prepare(ctx context.Context, conn *pgx.Conn) error {
	if err := enter(ctx, conn); err != nil {
		return err
	}
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
