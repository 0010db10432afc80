package db

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed gate.sql
var gateSQL string

const (
	gateLimit = 2 * time.Second        // a start is refused or let in by then
	gatePause = 500 * time.Millisecond // between tries while the server is away
	shown     = 5                      // findings in one refusal; `fulcrum doctor` lists all
)

// enter lets statements through once the gate has been passed. A refusal is
// final; a server that is away is asked again.
func (d *DB) enter(ctx context.Context) error {
	if d.passed.Load() {
		return nil
	}
	d.gateMu.Lock()
	defer d.gateMu.Unlock()
	if d.passed.Load() {
		return nil
	}
	if d.gateErr != nil && (!Unavailable(d.gateErr) || time.Since(d.gateTried) < gatePause) {
		return d.gateErr
	}
	err := d.gate(ctx)
	if ctx.Err() != nil { // says nothing about the server
		return err
	}
	d.gateErr, d.gateTried = err, time.Now()
	d.passed.Store(err == nil)
	return err
}

func (d *DB) gate(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, gateLimit)
	defer cancel()
	conn, err := d.take(limited)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = &Error{Op: "reach the server", Cause: fmt.Errorf("no answer within %s", gateLimit)}
		}
		return err
	}
	defer conn.Release()

	faults, err := faults(limited, conn.Conn())
	if err != nil {
		return classify(ctx, "start gate", err)
	}
	if len(faults) > 0 {
		return &Refusal{
			Reason: "refusing to start: " + strings.Join(faults, "; "),
			Hint:   "services log in as fulcrum_app; see db/README.md",
		}
	}
	d.report(limited, conn.Conn())
	return nil
}

// faults lists everything wrong at once. The search_path is fixed because the
// catalog's own text depends on it.
func faults(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	var found []string
	b := &pgx.Batch{}
	b.Queue(`select set_config('search_path', 'pg_catalog', true), set_config('transaction_read_only', 'on', true)`)
	b.Queue(gateSQL).Query(func(rows pgx.Rows) (err error) {
		found, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	if len(found) > 0 { // the lint looks through this role's eyes; first the role
		return found, nil
	}

	pending, err := pending(ctx, conn)
	if err != nil {
		return nil, err
	}
	if len(pending) > 0 {
		return []string{"migrations pending: " + strings.Join(pending, ", ")}, nil
	}
	findings, err := lint(ctx, conn, "")
	for i, f := range findings {
		if i == shown {
			return append(found, fmt.Sprintf("and %d more", len(findings)-shown)), nil
		}
		found = append(found, f.String())
	}
	return found, err
}

// pending names the embedded migrations that the database lacks. One that is
// ahead of this binary is fine: code runs before and after its migration.
func pending(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	var made bool
	if err := conn.QueryRow(ctx, `select to_regclass($1) is not null`, versionTable).Scan(&made); err != nil {
		return nil, err
	}
	applied := map[int64]bool{}
	if made {
		rows, err := conn.Query(ctx, `select distinct on (version_id) version_id, is_applied from `+versionTable+` order by version_id, id desc`)
		if err != nil {
			return nil, err
		}
		var version int64
		var is bool
		if _, err := pgx.ForEachRow(rows, []any{&version, &is}, func() error { applied[version] = is; return nil }); err != nil {
			return nil, err
		}
	}
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, name := range names {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", name, err)
		}
		if !applied[version] {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// report says how this pool fits the server, because the sum over all processes
// is what runs out.
func (d *DB) report(ctx context.Context, conn *pgx.Conn) {
	var limit int
	if err := conn.QueryRow(ctx, `select current_setting('max_connections')::int`).Scan(&limit); err != nil {
		return
	}
	cfg := d.pool.Config()
	mine := int(cfg.MaxConns)
	level := slog.LevelInfo
	if mine*5 > limit*4 {
		level = slog.LevelWarn
	}
	d.log.LogAttrs(ctx, level, "database open",
		slog.Int("pool_max", mine), slog.Int("server_max_connections", limit),
		slog.Int("processes_that_fit", limit*4/5/mine)) // pools together stay under 80 %
	if c := cfg.ConnConfig; c.TLSConfig == nil && !local(c.Host) {
		d.log.LogAttrs(ctx, slog.LevelWarn, "database connection is not encrypted", slog.String("host", c.Host),
			slog.String("hint", "sslmode=verify-full unless the network is private"))
	}
}

// local reports that traffic to host stays on this machine.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasPrefix(host, "/") || ip != nil && ip.IsLoopback()
}
