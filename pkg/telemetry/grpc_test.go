package telemetry

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// listening answers Evaluate with what it is told of the call, and nothing else.
type listening struct {
	policyenginev1.UnimplementedEvaluationServiceServer
	heard chan trace.SpanContext
}

func (l listening) Evaluate(ctx context.Context, _ *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	l.heard <- trace.SpanContextFromContext(ctx)
	return &policyenginev1.EvaluateResponse{}, nil
}

func connected(t *testing.T, server, client *Telemetry) (*grpc.ClientConn, listening) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listening{heard: make(chan trace.SpanContext, 1)}
	srv := grpc.NewServer(grpc.StatsHandler(server.GRPCServer()))
	policyenginev1.RegisterEvaluationServiceServer(srv, l)
	healthpb.RegisterHealthServer(srv, health.NewServer())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(client.GRPCClient()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-ended
	})
	return conn, l
}

// Both ends of a call are measured by method, outcome and, for a client, whom it
// called; probes are not.
func TestCallsAreMeasuredByMethodAndOutcome(t *testing.T) {
	t.Parallel()
	server, client := setup(t, "server"), setup(t, "client")
	conn, l := connected(t, server, client)
	c := policyenginev1.NewEvaluationServiceClient(conn)
	for range 3 {
		if _, err := c.Evaluate(t.Context(), &policyenginev1.EvaluateRequest{}); err != nil {
			t.Fatal(err)
		}
		<-l.heard
	}
	if _, err := c.Validate(t.Context(), &policyenginev1.ValidateRequest{}); err == nil {
		t.Fatal("Validate is not implemented, and answered")
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(conn.Target())
	for _, tt := range []struct {
		of   *Telemetry
		want []string
	}{
		{server, []string{
			`rpc_server_call_duration_seconds_count{rpc_method="fulcrum.policyengine.v1.EvaluationService/Evaluate",rpc_response_status_code="OK",rpc_system_name="grpc"} 3`,
			`rpc_server_call_duration_seconds_count{error_type="UNIMPLEMENTED",rpc_method="fulcrum.policyengine.v1.EvaluationService/Validate",rpc_response_status_code="UNIMPLEMENTED",rpc_system_name="grpc"} 1`,
		}},
		{client, []string{
			fmt.Sprintf(`rpc_client_call_duration_seconds_count{rpc_method="fulcrum.policyengine.v1.EvaluationService/Evaluate",rpc_response_status_code="OK",rpc_system_name="grpc",server_address="%s",server_port="%s"} 3`, host, port),
			`error_type="UNIMPLEMENTED"`,
		}},
	} {
		// A server's call ends after its client has the answer.
		for deadline := time.Now().Add(time.Minute); ; {
			got, missing := scrape(t, tt.of), ""
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					missing = want
				}
			}
			if missing == "" && strings.Contains(got, "grpc.health") {
				t.Errorf("probes are measured:\n%s", got)
			}
			if missing == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not in\n%s", missing, got)
			}
		}
	}
}

// The handler of a call is in the trace of whoever made it, whether or not
// anybody collects spans.
func TestATraceCrossesACall(t *testing.T) {
	t.Parallel()
	for _, collector := range []string{"", "http://127.0.0.1:1"} {
		tel, err := Setup(t.Context(), "svc", Config{Endpoint: collector})
		if err != nil {
			t.Fatal(err)
		}
		conn, l := connected(t, tel, tel)
		ctx, span := tel.Tracer("x").Start(t.Context(), "op")
		if _, err := policyenginev1.NewEvaluationServiceClient(conn).Evaluate(ctx, &policyenginev1.EvaluateRequest{}); err != nil {
			t.Fatal(err)
		}
		heard := <-l.heard
		if heard.TraceID() != span.SpanContext().TraceID() || heard.SpanID() == span.SpanContext().SpanID() {
			t.Errorf("with collector %q the handler is in %v, its caller in %v", collector, heard, span.SpanContext())
		}
		if heard.IsSampled() != (collector != "") {
			t.Errorf("with collector %q the handler is sampled: %v", collector, heard.IsSampled())
		}
		span.End()
		ended, stop := context.WithCancel(t.Context())
		stop()
		_ = tel.Shutdown(ended)
	}
}
