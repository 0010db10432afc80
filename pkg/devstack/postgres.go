package devstack

import (
	"context"
	"errors"
	"net/url"
)

// PostgresOptions choose how one PostgreSQL runs. The zero value is a new
// temporary folder, a free port and production's fsync.
type PostgresOptions struct {
	Dir     string   // data folder, kept; "" = temporary
	Port    int      // loopback port; 0 = a free one
	NoFsync bool     // speed for durability, as in Options
	Path    []string // folders with the programs; nil = PATH and the usual places
}

// Postgres is a private PostgreSQL cluster.
type Postgres struct {
	daemon   *daemon
	password string
}

// StartPostgres returns when the server answers. Its error holds the end of the
// server's log. The caller must Stop it.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	h, err := openHome(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	p, err := newPostgres(ctx, o, h)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	p.daemon.alone = true
	return p, nil
}

// URL reaches the database "postgres" as the superuser "postgres". It stays the
// same over restarts.
func (p *Postgres) URL() string {
	p.daemon.mu.Lock()
	defer p.daemon.mu.Unlock()
	return postgresURL(p.daemon.port, p.password)
}

// Stop shuts down orderly, cutting open connections. The data stay for Restart;
// a temporary folder is removed with its stack, or when this process ends.
func (p *Postgres) Stop() error { return p.daemon.stop() }

// Kill ends every process of the cluster at once, as a crash would.
func (p *Postgres) Kill() error { return p.daemon.kill() }

// Restart starts again on the same port and data, stopping first if need be,
// and returns when the server answers.
func (p *Postgres) Restart(ctx context.Context) error { return p.daemon.start(ctx) }

func newPostgres(ctx context.Context, o PostgresOptions, h *home) (*Postgres, error) {
	password, err := h.password("postgres")
	if err != nil {
		return nil, err
	}
	c, err := newCluster(h, o, password)
	if err != nil {
		return nil, err
	}
	d := &daemon{name: "PostgreSQL", program: c, home: h, port: o.Port}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return &Postgres{daemon: d, password: password}, nil
}

func postgresURL(port int, password string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", password),
		Host:     address(port),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
