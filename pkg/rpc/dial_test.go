package rpc

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

func TestOnlyUnavailableIsRetried(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		err      error
		fails    int64 // attempts that fail before one succeeds
		attempts int64
		works    bool
	}{
		{"a peer that is starting", fault.New(fault.Down, "starting"), 2, 3, true},
		{"a peer that stays down", fault.New(fault.Down, "down"), 9, 3, false},
		{"a peer that said when to come back", fault.New(fault.Down, "overloaded").WithRetry(time.Second), 9, 1, false},
		{"a conflict", fault.New(fault.Conflict, "changed"), 9, 1, false},
		{"a spent budget", fault.New(fault.Exhausted, "spent"), 9, 1, false},
		{"a plain error", errSQL, 9, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var attempts atomic.Int64
			addr, _ := serve(t, answering(func(context.Context) error {
				if attempts.Add(1) <= tt.fails {
					return tt.err
				}
				return nil
			}), ServerOptions{})
			err := get(t.Context(), dial(t, addr, DialOptions{}))
			if (err == nil) != tt.works || attempts.Load() != tt.attempts {
				t.Errorf("%v after %d attempts, want %d", err, attempts.Load(), tt.attempts)
			}
		})
	}
}

func TestACallWithoutADeadlineGetsOne(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		limit time.Duration // of the caller; 0: none
		want  time.Duration
	}{
		{"the default", 0, 10 * time.Second},
		{"the caller's own", time.Minute, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var left time.Duration
			addr, stop := serve(t, answering(func(ctx context.Context) error {
				if at, ok := ctx.Deadline(); ok {
					left = time.Until(at)
				}
				return nil
			}), ServerOptions{})
			ctx := t.Context()
			if tt.limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.limit)
				defer cancel()
			}
			if err := get(ctx, dial(t, addr, DialOptions{})); err != nil {
				t.Fatal(err)
			}
			stop()
			if left > tt.want || left < tt.want-5*time.Second {
				t.Errorf("%v left, want nearly %v", left, tt.want)
			}
		})
	}
}

func TestAPeerThatIsAwayIsDown(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, addr, DialOptions{}) // connects when first used, so this works
	for name, call := range both {
		err := call(t.Context(), conn)
		f, ok := fault.As(err)
		if !ok || f.Kind != fault.Down || f.RetryAfter == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if s := ToStatus(err); strings.Contains(s.Message(), "127.0.0.1") {
			t.Errorf("%s: the address of a service is told to callers: %v", name, s)
		}
		if !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: the address is not in the operator's text: %v", name, err)
		}
	}
}

func TestADeadlineThatPassesIsADeadline(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, answering(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), ServerOptions{})
	err := get(t.Context(), dial(t, addr, DialOptions{Timeout: 30 * time.Millisecond}))
	if !fault.Is(err, fault.Deadline) {
		t.Errorf("got %v", err)
	}
}

func TestAMessageThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, answering(nil), ServerOptions{MaxMessage: 1 << 10})
	_, err := budgetv1.NewLedgerServiceClient(dial(t, addr, DialOptions{})).
		Release(t.Context(), &budgetv1.ReleaseRequest{ReservationId: someID, Reason: strings.Repeat("x", 2<<10), IdempotencyKey: "k"})
	if !fault.Is(err, fault.Exhausted) {
		t.Errorf("got %v", err)
	}
}

func TestATraceContinuesInThePeer(t *testing.T) {
	t.Parallel()
	var tels [2]*telemetry.Telemetry
	for i := range tels {
		tel, err := telemetry.Setup(t.Context(), "svc", telemetry.Config{})
		if err != nil {
			t.Fatal(err)
		}
		tels[i] = tel
	}
	for name, call := range both {
		var got trace.SpanContext
		addr, stop := serve(t, answering(func(ctx context.Context) error {
			got = trace.SpanContextFromContext(ctx)
			return nil
		}), ServerOptions{Telemetry: tels[1]})
		ctx, span := tels[0].Tracer("x").Start(t.Context(), "op")
		if err := call(ctx, dial(t, addr, DialOptions{Telemetry: tels[0]})); err != nil {
			t.Error(err)
		}
		stop()
		if got.TraceID() != span.SpanContext().TraceID() {
			t.Errorf("%s: trace %v, want %v", name, got.TraceID(), span.SpanContext().TraceID())
		}
	}
}

func TestBeyondThisMachineThereIsATokenOrNothing(t *testing.T) {
	t.Parallel()
	none, token := secret.Secret{}, secret.New("x")
	for _, addr := range []string{"127.0.0.1:50053", "[::1]:50053", "localhost:50053"} {
		if err := RequireInternalToken(addr, none); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{":50053", "0.0.0.0:50053", "budget:50053", "10.0.0.1:50053"} {
		if err := RequireInternalToken(addr, none); err == nil || !strings.Contains(err.Error(), "FULCRUM_INTERNAL_TOKEN") {
			t.Errorf("%s without a token: %v", addr, err)
		}
		if err := RequireInternalToken(addr, token); err != nil {
			t.Errorf("%s with a token: %v", addr, err)
		}
	}
	if _, err := Dial("budget:50053", DialOptions{}); err == nil {
		t.Error("dialled beyond this machine without a token")
	}
	if conn, err := Dial("gateway:50051", DialOptions{Public: true}); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), NewServer(ServerOptions{Log: new(record).logger()}), ln, time.Second); err == nil {
		t.Error("served every interface without a token")
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the refused listener is still open")
	}
}

func BenchmarkCall(b *testing.B) {
	srv := NewServer(ServerOptions{Log: new(record).logger(), InternalToken: secret.New("x")})
	budgetv1.RegisterLedgerServiceServer(srv.GRPC(), ledger{peer: answering(func(context.Context) error { return nil })})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, srv, ln, time.Second) }()
	conn, err := Dial(ln.Addr().String(), DialOptions{InternalToken: secret.New("x")})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := get(ctx, conn); err != nil {
				b.Error(err)
			}
		}
	})
	_ = conn.Close()
	stop()
	<-done
}
