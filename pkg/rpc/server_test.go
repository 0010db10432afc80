package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// peer is a pair of services whose answers a test makes up.
type peer struct {
	get  func(context.Context) error
	wait func(approvals) error
}

type approvals = grpc.ServerStreamingServer[governancev1.WaitForApprovalResponse]

type ledger struct {
	budgetv1.UnimplementedLedgerServiceServer
	*peer
}

func (l ledger) GetReservation(ctx context.Context, _ *budgetv1.GetReservationRequest) (*budgetv1.GetReservationResponse, error) {
	if err := l.get(ctx); err != nil {
		return nil, err
	}
	return &budgetv1.GetReservationResponse{}, nil
}

type governance struct {
	governancev1.UnimplementedGovernanceServiceServer
	*peer
}

func (g governance) WaitForApproval(_ *governancev1.WaitForApprovalRequest, ss approvals) error {
	return g.wait(ss)
}

// record is a log that a test can read while a server writes it.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func (r *record) logger() *slog.Logger {
	return slog.New(telemetry.LogHandler(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// serve runs p behind a Server on loopback until the test ends.
func serve(t *testing.T, p *peer, o ServerOptions) (addr string, stop func()) {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	srv := NewServer(o)
	budgetv1.RegisterLedgerServiceServer(srv.GRPC(), ledger{peer: p})
	governancev1.RegisterGovernanceServiceServer(srv.GRPC(), governance{peer: p})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, srv, ln, 5*time.Second) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

func dial(t *testing.T, addr string, o DialOptions) *grpc.ClientConn {
	t.Helper()
	conn, err := Dial(addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw is a client that is none of ours.
func raw(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

const someID = "0190b6a8-0000-7000-8000-000000000001"

func get(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := budgetv1.NewLedgerServiceClient(conn).GetReservation(ctx, &budgetv1.GetReservationRequest{ReservationId: someID})
	return err
}

func wait(ctx context.Context, conn *grpc.ClientConn) error {
	ss, err := governancev1.NewGovernanceServiceClient(conn).WaitForApproval(ctx, &governancev1.WaitForApprovalRequest{ApprovalId: someID})
	if err != nil {
		return err
	}
	for {
		if _, err := ss.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// both asks by a unary call and by a stream: the two must behave alike.
var both = map[string]func(context.Context, *grpc.ClientConn) error{"unary": get, "stream": wait}

func answering(f func(context.Context) error) *peer {
	return &peer{get: f, wait: func(ss approvals) error { return f(ss.Context()) }}
}

func TestAPlainErrorIsHiddenAndLoggedOnceWithItsTrace(t *testing.T) {
	t.Parallel()
	for name, call := range both {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tel, err := telemetry.Setup(t.Context(), "svc", telemetry.Config{})
			if err != nil {
				t.Fatal(err)
			}
			var log record
			addr, stop := serve(t, answering(func(context.Context) error { return errSQL }), ServerOptions{Log: log.logger(), Telemetry: tel})
			ctx, span := tel.Tracer("x").Start(t.Context(), "op")
			defer span.End()
			err = call(ctx, dial(t, addr, DialOptions{Telemetry: tel}))
			if _, isFault := fault.As(err); err == nil || isFault || strings.Contains(err.Error(), "account") {
				t.Errorf("the caller got %v", err)
			}
			if s, _ := status.FromError(call(t.Context(), raw(t, addr))); s.Code() != codes.Internal || s.Message() != "internal error" {
				t.Errorf("a foreign caller got %v", s)
			}
			stop()
			if n := strings.Count(log.String(), "call failed"); n != 2 {
				t.Errorf("two calls, %d log records:\n%s", n, log.String())
			}
			if trace := span.SpanContext().TraceID().String(); !strings.Contains(log.String(), trace) || !strings.Contains(log.String(), "SQLSTATE") {
				t.Errorf("no trace %s or no cause in\n%s", trace, log.String())
			}
		})
	}
}

func TestAPanicEndsOneCallOnly(t *testing.T) {
	t.Parallel()
	for name, call := range both {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log record
			addr, stop := serve(t, answering(func(context.Context) error {
				panic("secret-key")
			}), ServerOptions{Log: log.logger()})
			conn := raw(t, addr)
			for range 2 {
				if s, _ := status.FromError(call(t.Context(), conn)); s.Code() != codes.Internal || s.Message() != "internal error" {
					t.Errorf("the caller got %v", s)
				}
			}
			stop()
			if n := strings.Count(log.String(), "call panicked"); n != 2 || !strings.Contains(log.String(), "server_test.go") {
				t.Errorf("%d records, or no stack:\n%s", n, log.String())
			}
		})
	}
}

func TestAFaultComesBackAsTheSameFaultAndPassesThroughAGateway(t *testing.T) {
	t.Parallel()
	want := fault.New(fault.Exhausted, "the daily budget is spent").WithReason("BUDGET_EXCEEDED").
		WithHint("Raise the limit.").WithMeta("budget_id", "b1").WithRetry(time.Hour).WithCause(errSQL)
	for name, call := range both {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner, _ := serve(t, answering(func(context.Context) error { return want }), ServerOptions{})
			conn := dial(t, inner, DialOptions{})
			outer, _ := serve(t, answering(func(ctx context.Context) error { return call(ctx, conn) }), ServerOptions{})
			for _, addr := range []string{inner, outer} {
				f, ok := fault.As(call(t.Context(), dial(t, addr, DialOptions{})))
				if !ok || f.Kind != fault.Exhausted || f.Msg != want.Msg || f.Reason != want.Reason || f.Hint != want.Hint ||
					f.RetryAfter != time.Hour || f.Meta["budget_id"] != "b1" || f.Cause != nil {
					t.Errorf("got %+v", f)
				}
			}
		})
	}
}

func TestWhatIsInvalidIsSaidCompletelyAndOnlyToThoseLetIn(t *testing.T) {
	t.Parallel()
	token := secret.New("internal")
	called := false
	addr, _ := serve(t, answering(func(context.Context) error { called = true; return nil }), ServerOptions{InternalToken: token})
	bad := &budgetv1.RenewRequest{ReservationId: "not a uuid"}

	_, err := budgetv1.NewLedgerServiceClient(dial(t, addr, DialOptions{InternalToken: token})).Renew(t.Context(), bad)
	f, ok := fault.As(err)
	if !ok || f.Kind != fault.Invalid || f.Reason != "VALIDATION_FAILED" {
		t.Fatalf("got %v", err)
	}
	fields := make(map[string]string)
	for _, v := range f.Violations {
		fields[v.Field] = v.Description
	}
	for _, want := range []string{"reservation_id", "ttl", "idempotency_key"} {
		if fields[want] == "" {
			t.Errorf("%s is not among %v", want, fields)
		}
	}

	_, err = budgetv1.NewLedgerServiceClient(raw(t, addr)).Renew(t.Context(), bad)
	if s, _ := status.FromError(err); s.Code() != codes.Unauthenticated || strings.Contains(s.Message(), "uuid") {
		t.Errorf("a stranger learned %v", s)
	}

	ss, err := governancev1.NewGovernanceServiceClient(dial(t, addr, DialOptions{InternalToken: token})).
		WaitForApproval(t.Context(), &governancev1.WaitForApprovalRequest{ApprovalId: "not a uuid"})
	if err == nil {
		_, err = ss.Recv()
	}
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("a stream got %v", err)
	}
	if called {
		t.Error("an invalid request reached its handler")
	}
}

func TestWhoIsCallingCrossesWithTheTokenOnly(t *testing.T) {
	t.Parallel()
	want := identity.Principal{Tenant: uuid.New(), KeyID: "k", AgentID: "a", Team: "t", UserID: "u",
		Roles: []string{"viewer"}, Scopes: []string{"cost:read"}, Admin: true}
	token := secret.New("internal")
	forged, err := encodePrincipal(want)
	if err != nil {
		t.Fatal(err)
	}
	ours := func(o DialOptions) func(*testing.T, string) *grpc.ClientConn {
		return func(t *testing.T, addr string) *grpc.ClientConn { return dial(t, addr, o) }
	}
	pairs := func(kv ...string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return metadata.AppendToOutgoingContext(ctx, kv...) }
	}
	for _, tt := range []struct {
		name   string
		token  secret.Secret // of the server
		conn   func(*testing.T, string) *grpc.ClientConn
		as     func(context.Context) context.Context
		let    bool // in at all
		caller bool // and known
	}{
		{"with the token", token, ours(DialOptions{InternalToken: token}), func(ctx context.Context) context.Context { return identity.With(ctx, want) }, true, true},
		{"with the token, nobody calling", token, ours(DialOptions{InternalToken: token}), pairs(), true, false},
		{"with another token", token, ours(DialOptions{InternalToken: secret.New("guess")}), func(ctx context.Context) context.Context { return identity.With(ctx, want) }, false, false},
		{"without a token", token, ours(DialOptions{}), func(ctx context.Context) context.Context { return identity.With(ctx, want) }, false, false},
		{"a forged principal", token, raw, pairs(principalKey, string(forged)), false, false},
		{"a forged principal and an empty token", token, raw, pairs(principalKey, string(forged), tokenKey, ""), false, false},
		{"two tokens", token, raw, pairs(tokenKey, "internal", tokenKey, "guess"), false, false},
		{"two principals", token, raw, pairs(tokenKey, "internal", principalKey, string(forged), principalKey, string(forged)), false, false},
		{"a principal that is none", token, raw, pairs(tokenKey, "internal", principalKey, "\xff\xff"), false, false},
		{"a principal without a tenant's form", token, raw, pairs(tokenKey, "internal", principalKey, ""), false, false},
		{"a principal smuggled in beside the real nobody", token, ours(DialOptions{InternalToken: token}), pairs(principalKey, string(forged)), true, false},
		{"to the front door nothing is sent", secret.Secret{}, ours(DialOptions{Public: true}), func(ctx context.Context) context.Context { return identity.With(ctx, want) }, true, false},
		{"on loopback without tokens", secret.Secret{}, ours(DialOptions{}), func(ctx context.Context) context.Context { return identity.With(ctx, want) }, true, true},
	} {
		for name, call := range both {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				t.Parallel()
				var got identity.Principal
				var who error
				in := false
				addr, stop := serve(t, answering(func(ctx context.Context) error {
					in = true
					got, who = identity.From(ctx)
					return nil
				}), ServerOptions{InternalToken: tt.token})
				err := call(tt.as(t.Context()), tt.conn(t, addr))
				stop()
				if (err == nil) != tt.let || in != tt.let {
					t.Fatalf("let in %v: %v", in, err)
				}
				if in && (who == nil) != tt.caller {
					t.Errorf("caller %+v, %v", got, who)
				}
				if tt.caller && (got.Tenant != want.Tenant || got.KeyID != "k" || got.AgentID != "a" || got.Team != "t" || got.UserID != "u" ||
					got.Roles[0] != "viewer" || got.Scopes[0] != "cost:read" || !got.Admin) {
					t.Errorf("caller %+v, want %+v", got, want)
				}
			})
		}
	}
}

func TestAFrontDoorAuthenticatesInItsOwnWay(t *testing.T) {
	t.Parallel()
	forged, err := encodePrincipal(identity.System(uuid.New()))
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range both {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, _ := serve(t, answering(func(ctx context.Context) error {
				if p, err := identity.From(ctx); err != nil || p.KeyID != "outside" {
					t.Errorf("caller %+v, %v", p, err)
				}
				return nil
			}), ServerOptions{Authenticate: func(ctx context.Context, method string) (context.Context, error) {
				if one(ctx, "authorization") != "Bearer good" || !strings.HasPrefix(method, "/fulcrum.") {
					return nil, fault.New(fault.Unauthenticated, "who are you")
				}
				return identity.With(ctx, identity.Principal{KeyID: "outside"}), nil
			}})
			conn := raw(t, addr)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer good", principalKey, string(forged))
			if err := call(ctx, conn); err != nil {
				t.Error(err)
			}
			if s, _ := status.FromError(call(t.Context(), conn)); s.Code() != codes.Unauthenticated {
				t.Errorf("without a credential: %v", s)
			}
		})
	}
}

func TestHealthAsksForNoCredential(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, answering(nil), ServerOptions{InternalToken: secret.New("x"), Reflection: true})
	resp, err := healthpb.NewHealthClient(raw(t, addr)).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("before Watch has looked: %v, %v", resp, err)
	}
}

func TestAMethodThatIsNotServedSaysSo(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, answering(nil), ServerOptions{})
	_, err := budgetv1.NewLedgerServiceClient(raw(t, addr)).GetReservation(t.Context(), &budgetv1.GetReservationRequest{})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("an empty request: %v", err)
	}
	_, err = governancev1.NewGovernanceServiceClient(raw(t, addr)).GetDecision(t.Context(), &governancev1.GetDecisionRequest{DecisionId: someID})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("not served: %v", err)
	}
}
