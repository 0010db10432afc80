package running

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Database looks into a stack's database past row-level security. It cannot
// change it.
type Database struct{ pool *pgxpool.Pool }

// Database returns a look into the database that ends with the test. It finds
// the server again after a restart.
func (s *Stack) Database(t testing.TB) *Database {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(s.databaseURL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 3
	cfg.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	cfg.ConnConfig.RuntimeParams["application_name"] = "test"
	// Tables that have just grown have no statistics: what is compared here is
	// large, and is hashed.
	cfg.ConnConfig.RuntimeParams["enable_nestloop"] = "off"
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &Database{pool}
}

// Count returns the one number that a query gives.
func (d *Database) Count(t testing.TB, sql string, args ...any) int64 {
	t.Helper()
	n, err := d.TryCount(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TryCount is Count while the server may be away.
func (d *Database) TryCount(ctx context.Context, sql string, args ...any) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := d.pool.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("%s: %w", sql, err)
	}
	return n, nil
}

// Texts returns the one text column that a query gives.
func (d *Database) Texts(ctx context.Context, sql string, args ...any) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	rows, err := d.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	return list, nil
}

// databaseURL is the superuser's.
func (s *Stack) databaseURL() string {
	password, _ := os.ReadFile(filepath.Join(s.Dir, "postgres.password")) // made by the first start
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", strings.TrimSpace(string(password))),
		Host: address(s.ports.postgres), Path: "/fulcrum", RawQuery: "sslmode=disable",
	}
	return u.String()
}
