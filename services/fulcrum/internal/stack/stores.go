package stack

import (
	"context"
	"fmt"
	"net/url"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
)

// databaseName is what the embedded server's database is called.
const databaseName = "fulcrum"

// given returns the connection string of a database that the operator named,
// or "".
func given(getenv func(string) string) (string, error) {
	for _, key := range []string{"POSTGRES_CONN_STR", "DATABASE_URL"} {
		if getenv(key) == "" {
			continue
		}
		r := config.From(getenv)
		dsn := config.Postgres(r)
		return dsn, r.Err()
	}
	return "", nil
}

func startStores(ctx context.Context, o Options) (*devstack.Stack, error) {
	dsn, err := given(o.Getenv)
	if err != nil {
		return nil, err
	}
	redis := o.Getenv("REDIS_URL")
	if addr := o.Getenv("REDIS_ADDR"); redis == "" && addr != "" {
		r := config.From(o.Getenv)
		redis = config.Redis(r).URL.Reveal()
		if err := r.Err(); err != nil {
			return nil, err
		}
	}
	return devstack.Start(ctx, devstack.Options{
		Dir: o.Dir, Postgres: dsn, Redis: redis, NATS: o.Getenv("NATS_URL"),
		PostgresPort: o.PostgresPort, RedisPort: o.RedisPort, NATSPort: o.NATSPort,
		Progress: o.Progress,
	})
}

// prepareDatabase returns the connection string that services use. Of an
// embedded server it makes roles, database and schema; a database that the
// operator named is migrated by the operator (fulcrum migrate up).
func prepareDatabase(ctx context.Context, o Options, s *devstack.Stack, k keys) (string, error) {
	if s.Postgres == nil {
		return s.PostgresURL, nil
	}
	o.Progress("migrating the database")
	if err := db.Bootstrap(ctx, s.PostgresURL, db.BootstrapOptions{Database: databaseName, AppPassword: k.AppPassword, MigratePassword: k.MigratePassword}); err != nil {
		return "", fmt.Errorf("bootstrap database: %w", err)
	}
	migrate, err := as(s.PostgresURL, "fulcrum_migrate", k.MigratePassword)
	if err != nil {
		return "", err
	}
	if err := db.Migrate(ctx, migrate); err != nil {
		return "", fmt.Errorf("migrate database: %w", err)
	}
	return as(s.PostgresURL, "fulcrum_app", k.AppPassword)
}

// as is the admin's connection string for another role, on our database.
func as(admin, role, password string) (string, error) {
	u, err := url.Parse(admin)
	if err != nil {
		return "", fmt.Errorf("connection string: %w", err)
	}
	u.User, u.Path = url.UserPassword(role, password), "/"+databaseName
	return u.String(), nil
}
