// Package rpc builds the gRPC servers, clients and probes every service uses,
// and is the one place that turns faults into wire errors and back.
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// wire is how a kind of fault leaves the process.
type wire struct {
	kind fault.Kind
	code codes.Code
	http int
}

// wires is the only map in the system. Each code stands for one kind, so that
// a fault survives the trip to a peer. The HTTP column is grpc-gateway's.
var wires = []wire{
	{fault.Invalid, codes.InvalidArgument, http.StatusBadRequest},
	{fault.Unauthenticated, codes.Unauthenticated, http.StatusUnauthorized},
	{fault.Denied, codes.PermissionDenied, http.StatusForbidden},
	{fault.NotFound, codes.NotFound, http.StatusNotFound},
	{fault.Conflict, codes.Aborted, http.StatusConflict},
	{fault.Exists, codes.AlreadyExists, http.StatusConflict},
	{fault.Precondition, codes.FailedPrecondition, http.StatusBadRequest},
	{fault.Exhausted, codes.ResourceExhausted, http.StatusTooManyRequests},
	{fault.Down, codes.Unavailable, http.StatusServiceUnavailable},
	{fault.Deadline, codes.DeadlineExceeded, http.StatusGatewayTimeout},
}

func ofKind(k fault.Kind) (wire, bool) {
	for _, w := range wires {
		if w.kind == k {
			return w, true
		}
	}
	return wire{}, false
}

func ofCode(c codes.Code) (wire, bool) {
	for _, w := range wires {
		if w.code == c {
			return w, true
		}
	}
	return wire{}, false
}

// ToStatus picks the code and text that leave the process. A fault speaks for
// itself; of any other error the caller learns no more than that we failed.
func ToStatus(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	if f, ok := fault.As(err); ok {
		if w, ok := ofKind(f.Kind); ok {
			return withDetails(status.New(w.code, f.Msg), f)
		}
		return status.New(codes.Internal, "internal error")
	}
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return relay(s.GRPCStatus())
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, "canceled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, "deadline exceeded")
	}
	if away, ok := errors.AsType[unavailable](err); ok && away.Unavailable() {
		return withDetails(status.New(codes.Unavailable, storeDown.Msg), storeDown)
	}
	return status.New(codes.Internal, "internal error")
}

// unavailable marks the errors of packages that cannot import fault, such as
// db: what they talk to is away, and the same call may succeed later.
type unavailable interface {
	error
	Unavailable() bool
}

var storeDown = fault.New(fault.Down, "a store that this call needs is away").WithReason("STORE_UNAVAILABLE").
	WithHint("repeat the call, with the same idempotency key").WithRetry(time.Second)

// relay passes on a status that gRPC itself, or a handler, made: what stands
// for a fault, and the codes that have no kind but a fixed meaning.
func relay(s *status.Status) *status.Status {
	switch s.Code() {
	case codes.Canceled:
		return status.New(codes.Canceled, "canceled")
	case codes.Unimplemented:
		return status.New(codes.Unimplemented, "not implemented")
	}
	if f, ok := fault.As(FromStatus(s.Err())); ok {
		w, _ := ofKind(f.Kind)
		return withDetails(status.New(w.code, f.Msg), f)
	}
	return status.New(codes.Internal, "internal error")
}

// HTTPStatus is the HTTP answer for a kind of fault; 500 for none of ours.
func HTTPStatus(k fault.Kind) int {
	if w, ok := ofKind(k); ok {
		return w.http
	}
	return http.StatusInternalServerError
}

func httpOfCode(c codes.Code) int {
	if w, ok := ofCode(c); ok {
		return w.http
	}
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.Canceled:
		return 499 // the client went away; nobody reads this
	case codes.Unimplemented:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// LogFailure writes down a call that failed: once, at the level at which
// somebody should look. The gRPC interceptors call it; other doors to the same
// core (REST, Connect) call it themselves.
func LogFailure(ctx context.Context, log *slog.Logger, method string, err error) {
	code := ToStatus(err).Code()
	level := slog.LevelDebug // the caller's doing
	switch code {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		level = slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded:
		level = slog.LevelWarn
	}
	if !log.Enabled(ctx, level) {
		return
	}
	log.LogAttrs(ctx, level, "call failed",
		slog.String("method", method),
		slog.String("code", code.String()),
		slog.Any("err", err))
}
