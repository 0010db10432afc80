package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

func setup(t *testing.T, name string) *Telemetry {
	t.Helper()
	tel, err := Setup(t.Context(), name, Config{Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func TestServicesInOneProcessDoNotMixTheirMetrics(t *testing.T) {
	t.Parallel()
	one, two := setup(t, "one"), setup(t, "two")
	for tel, n := range map[*Telemetry]int64{one: 3, two: 5} {
		c, err := tel.Meter("test").Int64Counter("fulcrum.test.calls")
		if err != nil {
			t.Fatal(err)
		}
		c.Add(t.Context(), n)
	}
	if got := scrape(t, one); !strings.Contains(got, "fulcrum_test_calls_total 3") || strings.Contains(got, `service_name="two"`) {
		t.Errorf("one shows\n%s", got)
	}
	if got := scrape(t, two); !strings.Contains(got, "fulcrum_test_calls_total 5") {
		t.Errorf("two shows\n%s", got)
	}
}

func TestLatenciesAreCountedInFractionsOfAMillisecond(t *testing.T) {
	t.Parallel()
	tel := setup(t, "svc")
	h, err := tel.Meter("test").Float64Histogram("fulcrum.policy.latency", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	h.Record(t.Context(), 0.0004)
	got := scrape(t, tel)
	for _, want := range []string{
		`fulcrum_policy_latency_seconds_bucket{le="0.00025"} 0`,
		`fulcrum_policy_latency_seconds_bucket{le="0.0005"} 1`,
		`service_version="v1.2.3"`,
		"go_goroutines",
		"process_cpu_seconds_total",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
}

func TestNothingIsRecordedAndNothingBreaksWithoutTelemetry(t *testing.T) {
	t.Parallel()
	var none *Telemetry
	_, span := none.Tracer("x").Start(t.Context(), "op")
	span.End()
	if c, err := none.Meter("x").Int64Counter("c"); err != nil {
		t.Error(err)
	} else {
		c.Add(t.Context(), 1)
	}
	if none.GRPCServer() == nil || none.GRPCClient() == nil || none.Postgres() == nil {
		t.Error("a nil handler")
	}
	if err := none.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRedisIsMeasured(t *testing.T) {
	t.Parallel()
	tel := setup(t, "svc")
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, PoolSize: 3})
	defer client.Close()
	if err := tel.Redis(client); err != nil {
		t.Fatal(err)
	}
	_ = client.Ping(t.Context()).Err() // nobody is there; the attempt counts
	if got := scrape(t, tel); !strings.Contains(got, "db_client_connections") {
		t.Errorf("no pool metrics in\n%s", got)
	}
}

func TestTracesAreSentToACollectorThatAnswersOrNot(t *testing.T) {
	t.Parallel()
	tel, err := Setup(t.Context(), "svc", Config{Endpoint: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err) // a collector that is away must not keep a service from starting
	}
	_, span := tel.Tracer("x").Start(t.Context(), "op")
	if !span.IsRecording() {
		t.Error("with a collector configured, spans are not recorded")
	}
	span.End()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = tel.Shutdown(ctx)
}

func TestLogRecordsNameTheirTrace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(LogHandler(slog.NewJSONHandler(&out, nil))).With(slog.String("service", "svc"))
	ctx, span := setup(t, "svc").Tracer("x").Start(t.Context(), "op")
	log.InfoContext(ctx, "inside")
	span.End()
	log.InfoContext(t.Context(), "outside")

	var inside, outside map[string]any
	dec := json.NewDecoder(&out)
	if err := dec.Decode(&inside); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&outside); err != nil {
		t.Fatal(err)
	}
	want := span.SpanContext()
	if inside["trace_id"] != want.TraceID().String() || inside["span_id"] != want.SpanID().String() || inside["service"] != "svc" {
		t.Errorf("inside: %v", inside)
	}
	if _, ok := outside["trace_id"]; ok {
		t.Errorf("outside: %v", outside)
	}
	if TraceID(ctx) != want.TraceID().String() || TraceID(t.Context()) != "" {
		t.Errorf("TraceID = %q", TraceID(ctx))
	}
}

func TestATraceCrossesNATSInLowerCaseHeaders(t *testing.T) {
	t.Parallel()
	ctx, span := setup(t, "svc").Tracer("x").Start(t.Context(), "op")
	defer span.End()
	header := map[string][]string{"Nats-Msg-Id": {"1"}}
	Inject(ctx, header)
	if len(header["traceparent"]) != 1 || header["Traceparent"] != nil {
		t.Fatalf("headers %v", header)
	}
	got := trace.SpanContextFromContext(Extract(t.Context(), header))
	if got.TraceID() != span.SpanContext().TraceID() {
		t.Errorf("trace %v, want %v", got.TraceID(), span.SpanContext().TraceID())
	}
	// A client that canonicalises its headers is understood too.
	other := map[string][]string{"Traceparent": header["traceparent"]}
	if trace.SpanContextFromContext(Extract(t.Context(), other)).TraceID() != got.TraceID() {
		t.Error("Traceparent was not read")
	}
	if trace.SpanContextFromContext(Extract(t.Context(), nil)).IsValid() {
		t.Error("a trace out of nothing")
	}
}
