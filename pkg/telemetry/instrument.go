package telemetry

import (
	"fmt"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/stats"
)

// TracerProvider is for libraries that instrument themselves.
func (t *Telemetry) TracerProvider() trace.TracerProvider {
	if t == nil {
		return tracenoop.NewTracerProvider()
	}
	return t.traces
}

// MeterProvider is for libraries that instrument themselves.
func (t *Telemetry) MeterProvider() metric.MeterProvider {
	if t == nil {
		return metricnoop.NewMeterProvider()
	}
	return t.metrics
}

// Redis makes client report its commands and its pool. Statements are left
// out of spans: they hold keys and values.
func (t *Telemetry) Redis(client redis.UniversalClient) error {
	if err := redisotel.InstrumentTracing(client,
		redisotel.WithTracerProvider(t.TracerProvider()),
		redisotel.WithDBStatement(false),
		redisotel.WithCallerEnabled(false)); err != nil {
		return fmt.Errorf("trace redis: %w", err)
	}
	if err := redisotel.InstrumentMetrics(client, redisotel.WithMeterProvider(t.MeterProvider())); err != nil {
		return fmt.Errorf("measure redis: %w", err)
	}
	return nil
}

// Postgres returns the tracer for pgx: statements, never their parameters.
func (t *Telemetry) Postgres() pgx.QueryTracer {
	return otelpgx.NewTracer(
		otelpgx.WithTracerProvider(t.TracerProvider()),
		otelpgx.WithMeterProvider(t.MeterProvider()),
		otelpgx.WithDisableConnectionDetailsInAttributes())
}

// Pool makes a pgxpool, or what wraps one, report its statistics.
func (t *Telemetry) Pool(pool otelpgx.PoolStats) error {
	if err := otelpgx.RecordStats(pool, otelpgx.WithStatsMeterProvider(t.MeterProvider())); err != nil {
		return fmt.Errorf("measure pool: %w", err)
	}
	return nil
}

// GRPCServer measures and traces the calls a server answers.
func (t *Telemetry) GRPCServer() stats.Handler { return otelgrpc.NewServerHandler(t.grpc()...) }

// GRPCClient measures and traces the calls a client makes.
func (t *Telemetry) GRPCClient() stats.Handler { return otelgrpc.NewClientHandler(t.grpc()...) }

func (t *Telemetry) grpc() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.TracerProvider()),
		otelgrpc.WithMeterProvider(t.MeterProvider()),
		otelgrpc.WithPropagators(Propagator()),
		otelgrpc.WithFilter(notHealth),
	}
}

// notHealth leaves out the probes: they would be most of all spans.
func notHealth(info *stats.RPCTagInfo) bool {
	const health = "/grpc.health.v1.Health/"
	return len(info.FullMethodName) < len(health) || info.FullMethodName[:len(health)] != health
}
