package config

import (
	"strings"
	"testing"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		vars map[string]string
		want string
	}{
		{"nothing set", nil, "postgres://fulcrum:fulcrum@localhost:5432/fulcrum"},
		{"in parts", map[string]string{"POSTGRES_USER": "u", "POSTGRES_PASSWORD": "p@ss/w", "POSTGRES_DB": "d", "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "5433"},
			"postgres://u:p%40ss%2Fw@127.0.0.1:5433/d"},
		{"the product's own variable wins", map[string]string{"POSTGRES_CONN_STR": "postgres://a@localhost/1", "DATABASE_URL": "postgres://b@localhost/2"},
			"postgres://a@localhost/1"},
		{"another stack's scheme", map[string]string{"DATABASE_URL": "postgresql+asyncpg://u:p@localhost:5432/db?application_name=x"},
			"postgres://u:p@localhost:5432/db?application_name=x"},
		{"elsewhere TLS is verified", map[string]string{"DATABASE_URL": "postgresql://u:p@db.example:5432/db"},
			"postgres://u:p@db.example:5432/db?sslmode=verify-full"},
		{"with other parameters", map[string]string{"DATABASE_URL": "postgres://u:p@db.example/db?pool_max_conns=3"},
			"postgres://u:p@db.example/db?pool_max_conns=3&sslmode=verify-full"},
		{"unless somebody chose", map[string]string{"DATABASE_URL": "postgres://u:p@db.example/db?sslmode=disable"},
			"postgres://u:p@db.example/db?sslmode=disable"},
		{"or the environment did", map[string]string{"DATABASE_URL": "postgres://u:p@db.example/db", "PGSSLMODE": "require"},
			"postgres://u:p@db.example/db"},
		{"one remote host among several", map[string]string{"DATABASE_URL": "postgres://u:p@localhost:1,db.example:2/db"},
			"postgres://u:p@localhost:1,db.example:2/db?sslmode=verify-full"},
		{"a socket", map[string]string{"DATABASE_URL": "postgres://u@/db?host=/run/postgresql"},
			"postgres://u@/db?host=/run/postgresql"},
		{"a host among the parameters", map[string]string{"DATABASE_URL": "postgres://u@/db?host=db.example"},
			"postgres://u@/db?host=db.example&sslmode=verify-full"},
		{"keywords", map[string]string{"DATABASE_URL": "host=db.example user=u dbname=d"},
			"host=db.example user=u dbname=d sslmode=verify-full"},
		{"keywords, a socket", map[string]string{"DATABASE_URL": "host=/run/postgresql user=u dbname=d"},
			"host=/run/postgresql user=u dbname=d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := From(Map(tt.vars))
			if got := Postgres(r); got != tt.want || r.Err() != nil {
				t.Errorf("Postgres = %q, %v, want %q", got, r.Err(), tt.want)
			}
		})
	}
}

func TestStoresRefuseWithoutRepeatingPasswords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		vars map[string]string
		want string
	}{
		{"another database", map[string]string{"DATABASE_URL": "mysql://u:hunter2@localhost/db"}, "DATABASE_URL"},
		{"no connection string", map[string]string{"POSTGRES_CONN_STR": "hunter2"}, "POSTGRES_CONN_STR"},
		{"the default password elsewhere", map[string]string{"POSTGRES_HOST": "db.example"}, "POSTGRES_PASSWORD"},
		{"not redis", map[string]string{"REDIS_URL": "http://:hunter2@x"}, "REDIS_URL"},
		{"broken redis", map[string]string{"REDIS_URL": "redis://:hunter2@[::1"}, "REDIS_URL"},
		{"redis database", map[string]string{"REDIS_DB": "-1"}, "REDIS_DB"},
		{"not nats", map[string]string{"NATS_URL": "nats://ok:4222,hunter2"}, "NATS_URL"},
		{"a user without a password", map[string]string{"NATS_USER": "u"}, "NATS_PASSWORD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := From(Map(tt.vars))
			Postgres(r)
			Redis(r)
			NATS(r)
			err := r.Err()
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Err = %v", err)
			}
		})
	}
}

func TestMetricsMayLiveElsewhere(t *testing.T) {
	t.Parallel()
	if got := MetricsPostgres(From(Map(nil)), "postgres://app"); got != "postgres://app" {
		t.Error(got)
	}
	r := From(Map(map[string]string{"METRICS_CONN_STR": "postgresql://u:p@localhost/fulcrum_metrics"}))
	if got := MetricsPostgres(r, "postgres://app"); got != "postgres://u:p@localhost/fulcrum_metrics" {
		t.Error(got)
	}
}

func TestRedisAndNATS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		vars map[string]string
		want string
	}{
		{nil, "redis://localhost:6379/0"},
		{map[string]string{"REDIS_ADDR": "r:1", "REDIS_PASSWORD": "p/w", "REDIS_DB": "3"}, "redis://:p%2Fw@r:1/3"},
		{map[string]string{"REDIS_URL": "rediss://u:p@r:1/2", "REDIS_ADDR": "other:1"}, "rediss://u:p@r:1/2"},
	} {
		r := From(Map(tt.vars))
		if got := Redis(r).URL.Reveal(); got != tt.want || r.Err() != nil {
			t.Errorf("%v: %q, %v", tt.vars, got, r.Err())
		}
	}
	r := From(Map(map[string]string{"NATS_URL": "nats://a:1, tls://b:2", "NATS_USER": "u", "NATS_PASSWORD": "p"}))
	if s := NATS(r); r.Err() != nil || s.User != "u" || s.Password.Reveal() != "p" {
		t.Errorf("%+v, %v", s, r.Err())
	}
	if s := NATS(From(Map(nil))); s.URL != "nats://localhost:4222" {
		t.Error(s.URL)
	}
}

func FuzzPostgres(f *testing.F) {
	for _, s := range []string{"postgres://u:p@h/d", "host=x", "://", "postgres://@@/?", "a+b://%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		r := From(Map(map[string]string{"DATABASE_URL": dsn}))
		if got := Postgres(r); r.Err() == nil && dsn != "" && got == "" {
			t.Fatalf("%q became nothing", dsn)
		}
	})
}
