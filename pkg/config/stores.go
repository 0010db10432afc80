package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Postgres returns the connection string of the application's database:
// POSTGRES_CONN_STR, else DATABASE_URL, else one built from POSTGRES_HOST,
// POSTGRES_PORT, POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB. It holds a
// password: hand it to the driver and to nothing else.
//
// A server on another machine is reached with sslmode=verify-full unless the
// string, or PGSSLMODE, says otherwise.
func Postgres(r *Reader) string {
	for _, key := range []string{"POSTGRES_CONN_STR", "DATABASE_URL"} {
		if dsn := r.Secret(key, ""); !dsn.IsZero() {
			return postgresDSN(r, key, dsn.Reveal())
		}
	}
	host, port := r.String("POSTGRES_HOST", "localhost"), r.IntBetween("POSTGRES_PORT", 5432, 1, 65535)
	password := r.Secret("POSTGRES_PASSWORD", "fulcrum")
	if err := password.RefuseDefault("POSTGRES_PASSWORD", host); err != nil {
		r.Problem("POSTGRES_PASSWORD", "is required for the server on %s", host)
	}
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(r.String("POSTGRES_USER", "fulcrum"), password.Reveal()),
		Host:   net.JoinHostPort(host, strconv.Itoa(port)),
		Path:   "/" + r.String("POSTGRES_DB", "fulcrum"),
	}
	return verified(r, u.String(), host)
}

// MetricsPostgres returns the database for telemetry: METRICS_CONN_STR, else
// application, which is what Postgres returned.
func MetricsPostgres(r *Reader, application string) string {
	if dsn := r.Secret("METRICS_CONN_STR", ""); !dsn.IsZero() {
		return postgresDSN(r, "METRICS_CONN_STR", dsn.Reveal())
	}
	return application
}

// postgresDSN accepts what other stacks write before "://" and the keyword
// form "host=... user=...". The value is never repeated in a problem.
func postgresDSN(r *Reader, key, dsn string) string {
	scheme, rest, isURL := strings.Cut(dsn, "://")
	if !isURL {
		fields := keywords(dsn)
		if fields["host"] == "" && fields["hostaddr"] == "" && fields["dbname"] == "" {
			r.Problem(key, "is neither postgres://user:password@host:port/database nor host=... dbname=...")
		}
		return verified(r, dsn, fields["host"])
	}
	if base, _, _ := strings.Cut(scheme, "+"); base != "postgres" && base != "postgresql" {
		r.Problem(key, "does not start with postgres:// or postgresql://")
		return dsn
	}
	authority, rawQuery, _ := strings.Cut(rest, "?")
	authority, _, _ = strings.Cut(authority, "/")
	hosts := authority[strings.LastIndex(authority, "@")+1:]
	if query, err := url.ParseQuery(rawQuery); err == nil && hosts == "" {
		hosts = query.Get("host")
	}
	return verified(r, "postgres://"+rest, hosts)
}

// verified adds sslmode=verify-full unless every host is this machine or
// somebody chose a mode.
func verified(r *Reader, dsn, hosts string) string {
	if strings.Contains(dsn, "sslmode=") || r.getenv("PGSSLMODE") != "" {
		return dsn
	}
	if hosts == "" {
		return dsn // the driver's default, a socket of this machine
	}
	local := true
	for host := range strings.SplitSeq(hosts, ",") {
		local = local && (strings.HasPrefix(host, "/") || secret.Loopback(host))
	}
	switch {
	case local:
		return dsn
	case !strings.Contains(dsn, "://"):
		return dsn + " sslmode=verify-full"
	case strings.Contains(dsn, "?"):
		return dsn + "&sslmode=verify-full"
	}
	return dsn + "?sslmode=verify-full"
}

func keywords(dsn string) map[string]string {
	out := make(map[string]string)
	for field := range strings.FieldsSeq(dsn) {
		if k, v, ok := strings.Cut(field, "="); ok {
			out[k] = strings.Trim(v, "'")
		}
	}
	return out
}

// RedisSettings says where Redis is. The URL may hold a password.
type RedisSettings struct{ URL secret.Secret }

// Redis reads REDIS_URL, else REDIS_ADDR, REDIS_PASSWORD and REDIS_DB.
func Redis(r *Reader) RedisSettings {
	if raw := r.Secret("REDIS_URL", ""); !raw.IsZero() {
		u, err := url.Parse(raw.Reveal())
		if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" {
			r.Problem("REDIS_URL", "is not redis://[user:password@]host:port[/database]")
		}
		return RedisSettings{URL: raw}
	}
	u := url.URL{
		Scheme: "redis",
		Host:   r.Addr("REDIS_ADDR", "localhost:6379"),
		Path:   "/" + strconv.Itoa(r.IntBetween("REDIS_DB", 0, 0, 1<<16)),
	}
	if password := r.Secret("REDIS_PASSWORD", ""); !password.IsZero() {
		u.User = url.UserPassword("", password.Reveal())
	}
	return RedisSettings{URL: secret.New(u.String())}
}

// NATSSettings says where NATS is and who we are there. URL may be a comma-
// separated list of servers.
type NATSSettings struct {
	URL      string
	User     string
	Password secret.Secret
}

// NATS reads NATS_URL, NATS_USER and NATS_PASSWORD.
func NATS(r *Reader) NATSSettings {
	s := NATSSettings{
		URL:      r.String("NATS_URL", "nats://localhost:4222"),
		User:     r.String("NATS_USER", ""),
		Password: r.Secret("NATS_PASSWORD", ""),
	}
	for server := range strings.SplitSeq(s.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss" {
			r.Problem("NATS_URL", "is not nats://host:port[,nats://host:port...]")
			break
		}
	}
	if s.User != "" && s.Password.IsZero() {
		r.Problem("NATS_PASSWORD", "is required because NATS_USER is set")
	}
	return s
}
