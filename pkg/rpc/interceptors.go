package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// recoverUnary keeps a panic in one call from ending all of them.
func recoverUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if p := recover(); p != nil {
				resp, err = nil, panicked(ctx, log, info.FullMethod, p)
			}
		}()
		return next(ctx, req)
	}
}

func recoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = panicked(ss.Context(), log, info.FullMethod, p)
			}
		}()
		return next(srv, ss)
	}
}

func panicked(ctx context.Context, log *slog.Logger, method string, p any) error {
	log.LogAttrs(ctx, slog.LevelError, "call panicked",
		slog.String("method", method),
		slog.String("panic", fmt.Sprint(p)),
		slog.String("stack", string(debug.Stack())))
	return status.Error(codes.Internal, "internal error")
}

// errorsUnary is where errors become codes, and where a failed call is logged.
// A plain error leaves as "internal error": left alone, grpc-go would send its
// text over the wire.
func errorsUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		resp, err := next(ctx, req)
		if err == nil {
			return resp, nil
		}
		LogFailure(ctx, log, info.FullMethod, err)
		if noRetry(err) {
			_ = grpc.SetTrailer(ctx, pushback) // fails only for a call that is over
		}
		return nil, ToStatus(err).Err()
	}
}

func errorsStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		err := next(srv, ss)
		if err == nil {
			return nil
		}
		LogFailure(ss.Context(), log, info.FullMethod, err)
		if noRetry(err) {
			ss.SetTrailer(pushback)
		}
		return ToStatus(err).Err()
	}
}

// pushback tells gRPC clients, ours above all, not to retry by themselves.
// Someone who answered "later" while overloaded is not helped by two more
// attempts within the same second: the caller decides.
var pushback = metadata.Pairs("grpc-retry-pushback-ms", "-1")

func noRetry(err error) bool {
	f, ok := fault.As(err)
	return ok && f.Kind == fault.Down && f.RetryAfter > 0
}

type authenticator = func(context.Context, string) (context.Context, error)

func authenticateUnary(who authenticator) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if open(info.FullMethod) {
			return next(ctx, req)
		}
		ctx, err := who(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

func (s *Server) authenticateStream(who authenticator) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if open(info.FullMethod) {
			ctx, cancel := context.WithCancel(ss.Context())
			defer cancel()
			go s.endWhenDraining(ctx, cancel)
			return next(srv, &stream{ServerStream: ss, ctx: ctx})
		}
		ctx, err := who(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		return next(srv, &stream{ServerStream: ss, ctx: context.WithValue(ctx, drainKey{}, s.draining)})
	}
}

// endWhenDraining ends a stream of gRPC's own, which cannot watch Draining. A
// client that watches our health would otherwise hold up every drain to its
// end. It gets a moment to hear that we no longer serve.
func (s *Server) endWhenDraining(ctx context.Context, end context.CancelFunc) {
	select {
	case <-s.draining:
		time.AfterFunc(100*time.Millisecond, end)
	case <-ctx.Done():
	}
}

// open reports whether a method is answered without asking who calls.
func open(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.Health/") || strings.HasPrefix(method, "/grpc.reflection.")
}

func validateUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := Validate(req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func validateStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(srv, validating{ss})
}

// validating checks each message as it arrives.
type validating struct{ grpc.ServerStream }

func (v validating) RecvMsg(m any) error {
	if err := v.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return Validate(m)
}

// stream is a grpc.ServerStream with another context.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }

type drainKey struct{}

// Draining is closed when the server of a stream begins to stop. A stream that
// lives long ends itself then, with a fault.Down, and its client comes back to
// another instance; one that does not watch holds up the drain.
func Draining(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(drainKey{}).(chan struct{})
	return c
}
