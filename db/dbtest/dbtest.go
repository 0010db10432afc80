// Package dbtest hands each test its own migrated Postgres database.
package dbtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
)

// Database is one test's own. DB is logged in as the app, with its limits; the
// URLs are for tests that need another role or a second pool.
type Database struct {
	DB         *db.DB
	Name       string
	AppURL     string // fulcrum_app
	MigrateURL string // fulcrum_migrate
	AdminURL   string // superuser, for what only a test may look at or break
}

// New returns a private copy of the current schema. The copy is dropped when
// the test passes and kept, its URL logged, when the test fails.
func New(t testing.TB) *Database {
	t.Helper()
	return NewWith(t, db.Options{MaxConns: 8})
}

// NewWith is New with a pool of the caller's choosing. The catalog lint is not
// run for every copy: package db tests it once for all.
func NewWith(t testing.TB, o db.Options) *Database {
	t.Helper()
	d := Bare(t)
	o.SkipGate = true
	pool, err := db.Open(t.Context(), d.AppURL, o)
	if err != nil {
		t.Fatalf("open test database: %v", err)
	}
	d.DB = pool
	t.Cleanup(func() { closeWithin(t, pool, 10*time.Second) })
	return d
}

// Bare is New without a pool: the test opens its own.
func Bare(t testing.TB) *Database {
	t.Helper()
	admin := serverURL(t)
	if err := template(admin); err != nil {
		t.Fatalf("build template database: %v", err)
	}

	d := at(admin, "test_"+strings.ToLower(rand.Text()))
	if err := run(admin, "create database "+d.Name+" template "+templateName+" owner fulcrum_owner"); err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("database kept: %s", d.AdminURL)
		} else if err := run(admin, "drop database "+d.Name+" with (force)"); err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return d
}

// Tenant creates a tenant and returns its id.
func Tenant(t testing.TB, d *Database) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `select fulcrum.create_tenant($1, $2, '{}', null)`, id, "tenant "+id.String())
		return err
	})
	if err != nil {
		t.Fatalf("create tenant: %v", err)
	}
	return id
}

// Admin runs statements as the superuser, past row level security.
func Admin(t testing.TB, d *Database, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if err := run(d.AdminURL, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// Count returns the single number that query yields to the superuser, past row
// level security.
func Count(t testing.TB, d *Database, query string, args ...any) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func serverURL(t testing.TB) string {
	t.Helper()
	u := os.Getenv("TEST_POSTGRES_URL")
	if u == "" && testing.Short() {
		t.Skip("needs Postgres")
	}
	if u == "" {
		t.Fatal("TEST_POSTGRES_URL is not set: run `make test`, or `go test -short`")
	}
	return u
}

func at(admin, name string) *Database {
	as := func(user *url.Userinfo) string {
		u, err := url.Parse(admin)
		if err != nil {
			panic(fmt.Sprintf("TEST_POSTGRES_URL is not a URL: %v", err))
		}
		u.Path = "/" + name
		if user != nil {
			u.User = user
			query := u.Query()
			query.Del("user")
			query.Del("password")
			u.RawQuery = query.Encode()
		}
		return u.String()
	}
	return &Database{
		Name:       name,
		AdminURL:   as(nil),
		AppURL:     as(url.UserPassword("fulcrum_app", password)),
		MigrateURL: as(url.UserPassword("fulcrum_migrate", password)),
	}
}

func closeWithin(t testing.TB, pool *db.DB, limit time.Duration) {
	closed := make(chan struct{})
	go func() { pool.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(limit):
		t.Errorf("database connections still in use %s after the test", limit)
	}
}

func run(url, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}
