// Package db owns Fulcrum's schema and is the only way into it: every statement
// runs through a door that says whose rows it may see.
package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options configure Open. Zero values mean the defaults.
type Options struct {
	Service  string // application_name of the connections
	Log      *slog.Logger
	MaxConns int             // default 30
	MinConns int             // kept open while idle, default 2
	Acquire  time.Duration   // how long a call waits for a free connection, default 2 s
	Tracer   pgx.QueryTracer // e.g. telemetry's Postgres(); nil: none

	// StartWithoutServer lets Open succeed while the server is away, for
	// services that can work from a cache. The gate then runs before the first
	// statement, and a refusal is what every call returns.
	StartWithoutServer bool
	// SkipGate is for tools that must open a database the gate refuses.
	SkipGate bool
}

// DB is a pool behind doors. Safe for concurrent use.
type DB struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	acquire time.Duration

	passed    atomic.Bool // the gate has let this process in
	gateMu    sync.Mutex  // guards the two below, and running the gate
	gateErr   error       // why not, when last tried
	gateTried time.Time
}

// Open connects to the database at dsn and runs the start gate: it refuses, with
// every fault named, a role that is too strong, a schema whose isolation has a
// hole, and a schema that lacks migrations. Close what it returns.
func Open(ctx context.Context, dsn string, o Options) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// The driver's text may quote the string, and with it the password.
		return nil, &Refusal{Reason: "database address is not a valid connection string"}
	}
	o = o.withDefaults()
	cfg.MaxConns = int32(o.MaxConns)
	cfg.MinIdleConns = int32(min(o.MinConns, o.MaxConns))
	cfg.MaxConnLifetime = time.Hour
	cfg.MaxConnLifetimeJitter = 5 * time.Minute
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.ConnConfig.ConnectTimeout = 2 * time.Second
	cfg.ConnConfig.RuntimeParams["application_name"] = o.Service
	if o.Tracer != nil {
		cfg.ConnConfig.Tracer = o.Tracer
	}
	cfg.AfterConnect = plainArrays
	cfg.PingTimeout = time.Second
	cfg.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > time.Second }

	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	d := &DB{pool: pool, log: o.Log, acquire: o.Acquire}
	d.passed.Store(o.SkipGate)
	if err := d.enter(ctx); err != nil {
		if o.StartWithoutServer && Unavailable(err) {
			o.Log.LogAttrs(ctx, slog.LevelWarn, "database away, started without it", slog.Any("error", err))
			return d, nil
		}
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return d, nil
}

func (o Options) withDefaults() Options {
	if o.MaxConns <= 0 {
		o.MaxConns = 30
	}
	if o.MinConns <= 0 {
		o.MinConns = 2
	}
	if o.Acquire <= 0 {
		o.Acquire = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Service == "" {
		o.Service = "fulcrum"
	}
	return o
}

// Close waits for connections in use and closes the pool.
func (d *DB) Close() { d.pool.Close() }

// Ping says whether the server answers and the gate is passed.
func (d *DB) Ping(ctx context.Context) error {
	conn, err := d.checkout(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return classify(ctx, "ping", conn.Ping(ctx))
}

// Stat returns the pool's numbers now, for metrics.
func (d *DB) Stat() *pgxpool.Stat { return d.pool.Stat() }

// Config returns a copy of the pool's settings, for metrics.
func (d *DB) Config() *pgxpool.Config { return d.pool.Config() }

// checkout returns a connection that passed the gate; the caller releases it.
func (d *DB) checkout(ctx context.Context) (*pgxpool.Conn, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	return d.take(ctx)
}

func (d *DB) take(ctx context.Context) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, d.acquire)
	defer cancel()
	conn, err := d.pool.Acquire(waiting)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("acquire connection: %w", ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		s := d.pool.Stat()
		err = fmt.Errorf("none within %s, %d of %d in use", d.acquire, s.AcquiredConns(), s.MaxConns())
	}
	return nil, &Error{Op: "acquire connection", Cause: err}
}
