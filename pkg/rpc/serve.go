package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Serve serves until ctx ends, then drains: clients are told first, calls in
// flight get drain to finish, and whatever is left after that is cut. It
// closes ln. A server that trusts the internal token refuses to listen beyond
// this machine without one.
func Serve(ctx context.Context, srv *Server, ln net.Listener, drain time.Duration) error {
	if srv.internal {
		if err := RequireInternalToken(ln.Addr().String(), srv.token); err != nil {
			return errors.Join(err, ln.Close())
		}
	}
	drained := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(drained)
		srv.health.Shutdown()
		close(srv.draining)
		cut := time.AfterFunc(drain, srv.grpc.Stop)
		defer cut.Stop()
		srv.grpc.GracefulStop()
	})
	if err := srv.grpc.Serve(ln); err != nil {
		if cancel() {
			return fmt.Errorf("serve grpc on %s: %w", ln.Addr(), err)
		}
		<-drained // stopped before it had begun to serve
		return nil
	}
	<-drained // Serve returns nil only once a stop has begun
	return nil
}

// ServeHTTP serves h until ctx ends, then drains like Serve. Its limits suit
// the open internet: slow headers are cut after 5 s, headers over 32 kB are
// refused, idle connections closed after two minutes. Bodies and answers have
// no limit here, because streams live long; handlers set their own.
func ServeHTTP(ctx context.Context, h http.Handler, ln net.Listener, drain time.Duration) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	draining := make(chan struct{})
	srv := &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), drainKey{}, draining)
		},
	}
	drained := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(drained)
		close(draining)
		limit, done := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer done()
		if srv.Shutdown(limit) != nil {
			_ = srv.Close() // cuts what did not finish in time
		}
	})
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) && cancel() {
		return fmt.Errorf("serve http on %s: %w", ln.Addr(), err)
	}
	<-drained
	return nil
}
