package db

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed lint.sql
var lintSQL string

// Finding is one hole in the isolation of tenants.
type Finding struct {
	Rule   string
	Object string
	Detail string
	Hint   string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s (%s)", f.Rule, f.Object, f.Detail, f.Hint)
}

// Lint reads the catalog of the database at url and returns every hole it finds
// in what the app role could reach. Any role may run it.
func Lint(ctx context.Context, url string) ([]Finding, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("database address: not a valid connection string")
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("lint: %w", err)
	}
	defer hangUp(ctx, conn)
	return lint(ctx, conn, "fulcrum_app")
}

// lint checks what role could reach; "" is the role of the connection.
func lint(ctx context.Context, conn *pgx.Conn, role string) (found []Finding, err error) {
	if role == "" {
		role = conn.Config().User
	}
	b := &pgx.Batch{}
	b.Queue(`select set_config('search_path', 'pg_catalog', true), set_config('transaction_read_only', 'on', true)`)
	b.Queue(lintSQL, role).Query(func(rows pgx.Rows) (err error) {
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Finding])
		return err
	})
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("catalog lint: %w", err)
	}
	return found, nil
}
