package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

var errSQL = errors.New(`relation "account" does not exist (SQLSTATE 42P01)`)

func TestWhatACallerLearnsOfAnError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		code codes.Code
		http int
		msg  string
	}{
		{"no error", nil, codes.OK, 200, ""},
		{"invalid", fault.New(fault.Invalid, "m"), codes.InvalidArgument, 400, "m"},
		{"unauthenticated", fault.New(fault.Unauthenticated, "m"), codes.Unauthenticated, 401, "m"},
		{"denied", fault.New(fault.Denied, "m"), codes.PermissionDenied, 403, "m"},
		{"not found", fault.New(fault.NotFound, "m"), codes.NotFound, 404, "m"},
		{"conflict", fault.New(fault.Conflict, "m"), codes.Aborted, 409, "m"},
		{"exists", fault.New(fault.Exists, "m"), codes.AlreadyExists, 409, "m"},
		{"precondition", fault.New(fault.Precondition, "m"), codes.FailedPrecondition, 400, "m"},
		{"exhausted", fault.New(fault.Exhausted, "m"), codes.ResourceExhausted, 429, "m"},
		{"down", fault.New(fault.Down, "m"), codes.Unavailable, 503, "m"},
		{"deadline", fault.New(fault.Deadline, "m"), codes.DeadlineExceeded, 504, "m"},
		{"wrapping adds nothing for the caller", fmt.Errorf("load: %w", fault.New(fault.Invalid, "m")), codes.InvalidArgument, 400, "m"},
		{"a store that is away", fmt.Errorf("record: %w", away{}), codes.Unavailable, 503, "a store that this call needs is away"},
		{"the cause stays home", fault.New(fault.Down, "m").WithCause(errSQL), codes.Unavailable, 503, "m"},
		{"a kind nobody mapped is not success", fault.New("new kind", "oops"), codes.Internal, 500, "internal error"},
		{"a plain error is hidden", fmt.Errorf("select: %w", errSQL), codes.Internal, 500, "internal error"},
		{"a canceled call is not our failure", fmt.Errorf("select: %w", context.Canceled), codes.Canceled, 499, "canceled"},
		{"nor is one that ran out of time", fmt.Errorf("select: %w", context.DeadlineExceeded), codes.DeadlineExceeded, 504, "deadline exceeded"},
		{"gRPC's own not implemented", status.Error(codes.Unimplemented, "method X not implemented"), codes.Unimplemented, 501, "not implemented"},
		{"a status with a meaning", status.Error(codes.InvalidArgument, "bad json"), codes.InvalidArgument, 400, "bad json"},
		{"wrapped, without the wrapping", fmt.Errorf("%w: %w", errSQL, status.Error(codes.NotFound, "gone")), codes.NotFound, 404, "gone"},
		{"a status that says nothing", status.Error(codes.Unknown, errSQL.Error()), codes.Internal, 500, "internal error"},
		{"an internal one", status.Error(codes.Internal, errSQL.Error()), codes.Internal, 500, "internal error"},
		{"an OK that is an error", status.FromContextError(errSQL).Err(), codes.Internal, 500, "internal error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ToStatus(tt.err)
			if got.Code() != tt.code || got.Message() != tt.msg {
				t.Errorf("ToStatus = %v %q, want %v %q", got.Code(), got.Message(), tt.code, tt.msg)
			}
			if h := httpOfCode(got.Code()); h != tt.http {
				t.Errorf("HTTP %d, want %d", h, tt.http)
			}
		})
	}
}

func TestEveryKindHasItsOwnCode(t *testing.T) {
	t.Parallel()
	seen := make(map[codes.Code]bool)
	for _, w := range wires {
		if seen[w.code] {
			t.Errorf("%v stands for two kinds: a peer could not tell them apart", w.code)
		}
		seen[w.code] = true
		if HTTPStatus(w.kind) != w.http {
			t.Errorf("HTTPStatus(%v) = %d", w.kind, HTTPStatus(w.kind))
		}
	}
	if HTTPStatus("new kind") != http.StatusInternalServerError {
		t.Error("an unknown kind is not a 500")
	}
}

// Whatever fault a service answers with, its client holds the same one, and
// passing it on changes nothing.
func TestAFaultSurvivesTheTripToAPeer(t *testing.T) {
	t.Parallel()
	text := rapid.StringMatching(`[ -~äß€]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		want := &fault.Error{
			Kind:       rapid.SampledFrom(wires).Draw(t, "kind").kind,
			Reason:     rapid.StringMatching(`[A-Z]{1,8}(_[A-Z]{1,8})?`).Draw(t, "reason"),
			Msg:        text.Draw(t, "msg"),
			Hint:       text.Draw(t, "hint"),
			RetryAfter: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "retry")),
		}
		for range rapid.IntRange(0, 3).Draw(t, "violations") {
			want.Violations = append(want.Violations, fault.Violation{Field: text.Draw(t, "field"), Description: text.Draw(t, "text")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "metas") {
			want = want.WithMeta(rapid.StringMatching(`[a-z]{1,6}_x`).Draw(t, "key"), text.Draw(t, "value"))
		}
		sent := want.WithCause(errSQL) // which stays at home
		first := FromStatus(ToStatus(sent).Err())
		again := FromStatus(ToStatus(fmt.Errorf("ask budget: %w", first)).Err())
		for _, got := range []error{first, again} {
			f, ok := fault.As(got)
			if !ok || !reflect.DeepEqual(f, want) {
				t.Fatalf("%#v became %#v", want, got)
			}
		}
	})
}

func TestATextThatIsNotUTF8StillHasItsCode(t *testing.T) {
	t.Parallel()
	s := ToStatus(fault.Field("name", "bad \xff").WithMeta("k", "\xff"))
	if s.Code() != codes.InvalidArgument {
		t.Errorf("ToStatus = %v", s)
	}
}

func TestWhatAPeerAnswersWithoutAFaultOfOurs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		is   error // errors.Is must hold
		not  bool  // must be no fault
		sent codes.Code
	}{
		{"cannot be reached", status.Error(codes.Unavailable, "connection error: dial tcp 10.0.0.7:1: refused"), fault.Down, false, codes.Unavailable},
		{"deadline", status.Error(codes.DeadlineExceeded, "context deadline exceeded"), fault.Deadline, false, codes.DeadlineExceeded},
		{"deadline, for those who ask the context", status.Error(codes.DeadlineExceeded, "x"), context.DeadlineExceeded, false, codes.DeadlineExceeded},
		{"canceled", status.Error(codes.Canceled, "x"), context.Canceled, true, codes.Canceled},
		{"internal", status.Error(codes.Internal, "internal error"), nil, true, codes.Internal},
		{"unknown", status.Error(codes.Unknown, "pq: secret"), nil, true, codes.Internal},
		{"unimplemented", status.Error(codes.Unimplemented, "no"), nil, true, codes.Internal},
		{"not found", status.Error(codes.NotFound, "gone"), fault.NotFound, false, codes.NotFound},
		{"the internal token is wrong", ToStatus(fault.New(fault.Unauthenticated, "m").WithReason(reasonPeer)).Err(), nil, true, codes.Internal},
		{"no status at all", io.EOF, io.EOF, true, codes.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := FromStatus(tt.err)
			if tt.is != nil && !errors.Is(got, tt.is) {
				t.Errorf("FromStatus = %v, want %v", got, tt.is)
			}
			if _, ok := fault.As(got); ok == tt.not {
				t.Errorf("FromStatus = %#v, a fault: %v", got, ok)
			}
			if s := ToStatus(fmt.Errorf("ask: %w", got)); s.Code() != tt.sent {
				t.Errorf("passed on as %v, want %v", s, tt.sent)
			}
		})
	}
	if FromStatus(nil) != nil {
		t.Error("nil became an error")
	}
	f, _ := fault.As(FromStatus(status.Error(codes.Unavailable, "dial tcp 10.0.0.7:1")))
	if f.RetryAfter == 0 || f.Msg == "" || f.Code() != "UNREACHABLE" || f.Cause == nil {
		t.Errorf("unreachable: %+v", f)
	}
	if got := PeerCode(fmt.Errorf("x: %w", FromStatus(status.Error(codes.Unimplemented, "")))); got != codes.Unimplemented {
		t.Errorf("PeerCode = %v", got)
	}
}

func TestAProblemSaysOverHTTPWhatAStatusSaysOverGRPC(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/budgets", nil)
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "req-1")
	WriteProblem(w, r, fmt.Errorf("x: %w", fault.Field("limit", "must be positive").
		WithHint("Send a limit above zero.").WithRetry(1500*time.Millisecond).WithMeta("budget", "b1").WithCause(errSQL)))

	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"type": "about:blank", "title": "Bad Request", "status": 400.0, "detail": "limit: must be positive",
		"code": "INVALID_ARGUMENT", "reason": "INVALID", "hint": "Send a limit above zero.",
		"violations":          []any{map[string]any{"field": "limit", "description": "must be positive"}},
		"metadata":            map[string]any{"budget": "b1"},
		"retry_after_seconds": 1.5, "request_id": "req-1",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("problem %v\nwant %v", got, want)
	}
	if w.Code != 400 || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Retry-After") != "2" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestProblemHeaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err         error
		code        int
		name        string
		header, val string
	}{
		{fault.New(fault.Down, "m"), 503, "UNAVAILABLE", "Retry-After", "1"},
		{fault.New(fault.Exhausted, "m").WithRetry(time.Minute), 429, "RESOURCE_EXHAUSTED", "Retry-After", "60"},
		{fault.New(fault.Unauthenticated, "m"), 401, "UNAUTHENTICATED", "WWW-Authenticate", `Bearer realm="fulcrum"`},
		{errSQL, 500, "INTERNAL", "Cache-Control", "no-store"},
		{context.Canceled, 499, "CANCELLED", "Retry-After", ""},
	} {
		w := httptest.NewRecorder()
		WriteProblem(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), tt.err)
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if w.Code != tt.code || p.Status != tt.code || p.Code != tt.name || p.Title == "" || p.Reason == "" {
			t.Errorf("%v: %d %+v", tt.err, w.Code, p)
		}
		if got := w.Header().Get(tt.header); got != tt.val {
			t.Errorf("%v: %s is %q, want %q", tt.err, tt.header, got, tt.val)
		}
	}
}

type away struct{}

func (away) Error() string     { return "dial tcp 10.0.0.7:5432: refused" }
func (away) Unavailable() bool { return true }
