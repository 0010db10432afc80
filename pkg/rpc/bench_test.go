package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

type allows struct {
	policyenginev1.UnimplementedEvaluationServiceServer
}

func (allows) Evaluate(context.Context, *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	return &policyenginev1.EvaluateResponse{Decision: governancev1.Decision_DECISION_ALLOW}, nil
}

// BenchmarkHop is what one call costs both ends: over plain gRPC, and between two
// of our services.
func BenchmarkHop(b *testing.B) {
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return ln
	}
	b.Run("plain", func(b *testing.B) {
		ln, srv := listen(), grpc.NewServer()
		policyenginev1.RegisterEvaluationServiceServer(srv, allows{})
		go func() { _ = srv.Serve(ln) }()
		defer srv.Stop()
		conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		hop(b, b.Context(), conn)
	})
	b.Run("ours", func(b *testing.B) {
		measured := func(name string) *telemetry.Telemetry {
			t, err := telemetry.Setup(b.Context(), name, telemetry.Config{})
			if err != nil {
				b.Fatal(err)
			}
			return t
		}
		ln, srv := listen(), rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler), Telemetry: measured("server")})
		policyenginev1.RegisterEvaluationServiceServer(srv.GRPC(), allows{})
		ctx, stop := context.WithCancel(b.Context())
		stopped := make(chan error)
		go func() { stopped <- rpc.Serve(ctx, srv, ln, time.Second) }()
		conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{Telemetry: measured("client")})
		if err != nil {
			b.Fatal(err)
		}
		hop(b, identity.With(b.Context(), identity.System(uuid.New())), conn)
		_ = conn.Close()
		stop()
		<-stopped
	})
}

func hop(b *testing.B, ctx context.Context, conn *grpc.ClientConn) {
	client := policyenginev1.NewEvaluationServiceClient(conn)
	req := &policyenginev1.EvaluateRequest{Facts: &policyenginev1.Facts{
		WorkflowId: "wf", EnvelopeId: "env", AgentId: "agent-7", AgentTeam: "growth", UserRoles: []string{"analyst"},
		Action:   &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "send_email"},
		Estimate: &governancev1.Estimate{InputTokens: 900, MaxOutputTokens: 400},
	}}
	ask := func() {
		if _, err := client.Evaluate(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
	ask()
	b.ReportAllocs()
	b.ResetTimer()
	began := used(b)
	for range b.N {
		ask()
	}
	b.ReportMetric(float64(used(b)-began)/float64(b.N), "cpu-ns/op")
}

func used(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
