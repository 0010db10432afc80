// Package telemetry gives a service its traces, metrics and log format.
//
// Nothing here is global: several services in one process each have their own
// Telemetry, and their metrics do not mix.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says where telemetry goes.
type Config struct {
	Version     string
	Endpoint    string  // OTLP over gRPC, a URL; "" sends no traces anywhere
	SampleRatio float64 // of the traces that start here; 0 means all
}

// Telemetry is what one service measures itself with. A nil *Telemetry works
// and records nothing.
type Telemetry struct {
	traces   *sdktrace.TracerProvider
	metrics  *sdkmetric.MeterProvider
	registry *prometheus.Registry
}

// Setup builds the telemetry of the service called name. Call Shutdown to
// flush what it has not sent yet.
func Setup(ctx context.Context, name string, cfg Config) (*Telemetry, error) {
	about := resource.NewSchemaless(
		attribute.String("service.name", name),
		attribute.String("service.namespace", "fulcrum"),
		attribute.String("service.version", cfg.Version),
	)
	traces, err := tracer(ctx, cfg, about)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("export metrics: %w", err)
	}
	return &Telemetry{
		traces: traces,
		metrics: sdkmetric.NewMeterProvider(
			sdkmetric.WithReader(exporter),
			sdkmetric.WithResource(about),
			sdkmetric.WithView(latency)),
		registry: registry,
	}, nil
}

// tracer makes trace ids whether or not anybody collects the spans: logs and
// answers carry them.
func tracer(ctx context.Context, cfg Config, about *resource.Resource) (*sdktrace.TracerProvider, error) {
	if cfg.Endpoint == "" {
		return sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithSampler(sdktrace.NeverSample())), nil
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("export traces to %s: %w", cfg.Endpoint, err)
	}
	ratio := cfg.SampleRatio
	if ratio == 0 {
		ratio = 1
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)))), nil
}

// latency gives every histogram of seconds buckets that tell half a
// millisecond from one: OpenTelemetry's defaults are made for milliseconds.
func latency(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	if i.Kind != sdkmetric.InstrumentKindHistogram || i.Unit != "s" {
		return sdkmetric.Stream{}, false
	}
	return sdkmetric.Stream{
		Name: i.Name, Description: i.Description, Unit: i.Unit,
		Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: []float64{
			.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}},
	}, true
}

// Shutdown sends what is still queued, as far as ctx allows.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx))
}

// MetricsHandler serves this service's metrics in Prometheus' format.
func (t *Telemetry) MetricsHandler() http.Handler {
	if t == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{Registry: t.registry})
}

// Meter makes instruments; scope is the import path of who asks.
func (t *Telemetry) Meter(scope string) metric.Meter { return t.MeterProvider().Meter(scope) }

// Tracer makes spans; scope is the import path of who asks.
func (t *Telemetry) Tracer(scope string) trace.Tracer { return t.TracerProvider().Tracer(scope) }

// Propagator reads and writes the W3C traceparent, tracestate and baggage.
func (t *Telemetry) Propagator() propagation.TextMapPropagator { return Propagator() }

// Propagator reads and writes the W3C traceparent, tracestate and baggage.
func Propagator() propagation.TextMapPropagator { return propagator }

var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
