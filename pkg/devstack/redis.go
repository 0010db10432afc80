package devstack

import (
	"context"
	"errors"
	"net/url"
)

// RedisOptions choose how one Redis runs. The zero value is a new temporary
// folder and a free port.
type RedisOptions struct {
	Dir  string   // holds the password and the log, kept; "" = temporary
	Port int      // loopback port; 0 = a free one
	Path []string // folders with the program; nil = PATH and the usual places
}

// Redis is a private Redis that keeps nothing on disk: a restart finds it empty.
type Redis struct {
	daemon   *daemon
	password string
}

// StartRedis returns when the server answers. Its error holds the end of the
// server's log. The caller must Stop it.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	h, err := openHome(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	r, err := newRedis(ctx, o, h)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	r.daemon.alone = true
	return r, nil
}

// URL reaches database 0 of the server. It stays the same over restarts.
func (r *Redis) URL() string {
	r.daemon.mu.Lock()
	defer r.daemon.mu.Unlock()
	u := url.URL{Scheme: "redis", User: url.UserPassword("", r.password), Host: address(r.daemon.port), Path: "/0"}
	return u.String()
}

// Stop shuts the server down.
func (r *Redis) Stop() error { return r.daemon.stop() }

// Kill ends the server at once, as a crash would.
func (r *Redis) Kill() error { return r.daemon.kill() }

// Restart starts again on the same port, stopping first if need be, and returns
// when the server answers.
func (r *Redis) Restart(ctx context.Context) error { return r.daemon.start(ctx) }

func newRedis(ctx context.Context, o RedisOptions, h *home) (*Redis, error) {
	program, err := findRedis(o.Path)
	if err != nil {
		return nil, err
	}
	password, err := h.password("redis")
	if err != nil {
		return nil, err
	}
	folder, err := h.folder("redis")
	if err != nil {
		return nil, err
	}
	s := &redisServer{program: program, folder: folder, password: password}
	d := &daemon{name: "Redis", program: s, home: h, port: o.Port}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return &Redis{daemon: d, password: password}, nil
}
