package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
)

// Settings are what every service reads. Where a store is not used, its
// setting is simply not looked at.
type Settings struct {
	Postgres        string // a connection string, with its password
	MetricsPostgres string // the same, unless telemetry has its own database
	Redis           config.RedisSettings
	NATS            config.NATSSettings
	InternalToken   secret.Secret // FULCRUM_INTERNAL_TOKEN; may be empty on loopback
	OpsAddr         string        // <NAME>_OPS_ADDR: /livez, /readyz, /metrics
	Drain           time.Duration // FULCRUM_DRAIN: what calls in flight get when stopping
}

// Shell is what every service opens first and closes last.
type Shell struct {
	Name      string
	Version   string
	Log       *slog.Logger
	Telemetry *telemetry.Telemetry
	Settings  Settings

	listen func(context.Context, string) (net.Listener, error)
}

var errDescribed = errors.New("settings were described, not used")

// Open reads the common settings and those that read asks for, reports
// everything wrong with any of them in one error, and starts telemetry. The
// service's own configuration is read like this:
//
//	var cfg Config
//	sh, err := service.Open(ctx, env, "budget", cfg.read) // func (c *Config) read(r *config.Reader)
func Open(ctx context.Context, env Env, name string, read ...func(*config.Reader)) (*Shell, error) {
	r := config.From(env.Getenv)
	s := common(r, name)
	tracing := telemetry.Config{
		Version:     env.Version,
		Endpoint:    r.URL("OTEL_EXPORTER_OTLP_ENDPOINT", "", "http", "https"),
		SampleRatio: r.Float("OTEL_TRACES_SAMPLER_ARG", 1, 0.000001, 1),
	}
	for _, f := range read {
		f(r)
	}
	if env.describe {
		describe(env.Stdout, r)
		return nil, errDescribed
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	t, err := telemetry.Setup(ctx, name, tracing)
	if err != nil {
		return nil, fmt.Errorf("start telemetry: %w", err)
	}
	sh := &Shell{Name: name, Version: env.Version, Telemetry: t, Settings: s, listen: env.Listen}
	if sh.Log = env.Log; sh.Log == nil {
		sh.Log = slog.New(slog.DiscardHandler)
	}
	sh.Log = sh.Log.With(slog.String("service", name))
	if sh.listen == nil {
		sh.listen = func(ctx context.Context, addr string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, "tcp", addr)
		}
	}
	return sh, nil
}

func common(r *config.Reader, name string) Settings {
	s := Settings{Postgres: config.Postgres(r)}
	s.MetricsPostgres = config.MetricsPostgres(r, s.Postgres)
	s.Redis = config.Redis(r)
	s.NATS = config.NATS(r)
	s.InternalToken = r.Secret("FULCRUM_INTERNAL_TOKEN", "")
	s.OpsAddr = opsAddr(r, name)
	s.Drain = r.DurationBetween("FULCRUM_DRAIN", 15*time.Second, 0, 10*time.Minute)
	for _, d := range documented {
		r.Doc(d.key, d.doc)
	}
	return s
}

var documented = []struct{ key, doc string }{
	{"POSTGRES_CONN_STR", "the application's database, postgres://user:password@host:port/database"},
	{"DATABASE_URL", "the same, where POSTGRES_CONN_STR is not set"},
	{"METRICS_CONN_STR", "another database for telemetry"},
	{"REDIS_URL", "redis://[user:password@]host:port[/database]; wins over REDIS_ADDR"},
	{"NATS_URL", "nats://host:port, several separated by commas"},
	{"FULCRUM_INTERNAL_TOKEN", "what services show each other; required beyond loopback"},
	{"FULCRUM_DRAIN", "how long calls in flight may take when stopping"},
	{"OTEL_EXPORTER_OTLP_ENDPOINT", "where traces go over OTLP/gRPC, a URL; empty: nowhere"},
	{"OTEL_TRACES_SAMPLER_ARG", "the share of traces to keep"},
	{"LOG_LEVEL", "debug, info, warn or error"},
	{"LOG_FORMAT", "json, text, or auto"},
}

// opsAddr is where a service tells its operators how it is. Each has its own
// port, because one process may run them all.
func opsAddr(r *config.Reader, name string) string {
	port := map[string]string{
		"gateway": "9101", "policy-engine": "9102", "budget": "9103",
		"control-plane": "9104", "event-processor": "9105", "audit": "9106",
	}[name]
	if port == "" {
		port = "9100"
	}
	return config.Listen(r, variable(name)+"_OPS_ADDR", "127.0.0.1:"+port)
}

// variable is how a service's name starts its own variables.
func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

func describe(w io.Writer, r *config.Reader) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = t.Flush() }() // to a screen
	for _, s := range r.Seen() {
		note := s.Default
		switch {
		case s.Required:
			note = "(required)"
		case s.Secret:
			note = "(secret)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Key, note, s.Doc)
	}
}

// Close sends the telemetry that is left.
func (sh *Shell) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := sh.Telemetry.Shutdown(ctx); err != nil {
		sh.Log.LogAttrs(ctx, slog.LevelWarn, "telemetry was not sent", slog.Any("err", err))
	}
}

// Server returns a server for internal callers: rpc.NewServer with this
// service's log, telemetry and token.
func (sh *Shell) Server() *rpc.Server {
	return rpc.NewServer(rpc.ServerOptions{Log: sh.Log, InternalToken: sh.Settings.InternalToken, Telemetry: sh.Telemetry})
}

// Dial returns a connection to another service, with this one's token and
// telemetry.
func (sh *Shell) Dial(addr string) (*grpc.ClientConn, error) {
	return rpc.Dial(addr, rpc.DialOptions{InternalToken: sh.Settings.InternalToken, Telemetry: sh.Telemetry})
}

// Listen opens a TCP listener the way the surroundings want it.
func (sh *Shell) Listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := sh.listen(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return ln, nil
}
