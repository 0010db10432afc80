package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/rpc"
)

// Plan is what a service runs.
type Plan struct {
	GRPC *rpc.Server // served on Addr; nil if the service has none
	Addr string

	Fronts  []Task      // other listeners: they stop taking calls and drain when their context ends
	Workers []Task      // what calls in flight may need: they end after every front has drained
	Checks  []rpc.Check // ready means all pass
}

// Task is something that runs until its context ends. An error, or a panic,
// stops the service; returning nil early does not.
type Task struct {
	Name string
	Run  func(context.Context) error
}

// workerGrace is what workers get to finish once their context has ended.
const workerGrace = 15 * time.Second

// Run serves until ctx ends or a task fails, and then stops in the order that
// loses nothing: health goes down, fronts drain, workers end. It returns what
// failed, or nil.
func (sh *Shell) Run(ctx context.Context, p Plan) error {
	serving, stop := context.WithCancel(ctx)
	defer stop()
	// Workers outlive ctx: a call that is drained may still wait for them.
	working, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()

	ops, err := sh.Listen(ctx, sh.Settings.OpsAddr)
	if err != nil {
		return err
	}
	fronts := p.Fronts
	if p.GRPC != nil {
		ln, err := sh.Listen(ctx, p.Addr)
		if err != nil {
			return errors.Join(err, ops.Close())
		}
		fronts = append([]Task{
			{"grpc", func(ctx context.Context) error { return rpc.Serve(ctx, p.GRPC, ln, sh.Settings.Drain) }},
			{"health", func(ctx context.Context) error {
				return rpc.Watch(ctx, p.GRPC.Health(), sh.Log, 5*time.Second, p.Checks...)
			}},
		}, fronts...)
		sh.Log.LogAttrs(ctx, slog.LevelInfo, "serving grpc", slog.String("addr", ln.Addr().String()), slog.String("version", sh.Version))
	}
	answerOps := Task{"operations", func(ctx context.Context) error {
		return rpc.ServeHTTP(ctx, sh.opsHandler(serving, p.Checks), ops, time.Second)
	}}
	failed := &firstError{stop: stop}
	var front, work sync.WaitGroup
	for _, t := range append([]Task{answerOps}, p.Workers...) {
		work.Go(func() { failed.note(t.Name, safely(working, t)) })
	}
	for _, t := range fronts {
		front.Go(func() { failed.note(t.Name, safely(serving, t)) })
	}

	<-serving.Done()
	sh.Log.LogAttrs(ctx, slog.LevelInfo, "stopping", slog.Duration("drain", sh.Settings.Drain))
	front.Wait()
	finish()
	if !ends(&work, workerGrace) {
		failed.note("workers", fmt.Errorf("did not end within %v", workerGrace))
	}
	return failed.get()
}

// opsHandler answers on the operational port until the very end, and says "not
// ready" from the moment the service stops taking calls.
func (sh *Shell) opsHandler(serving context.Context, checks []rpc.Check) http.Handler {
	stopping := rpc.Check{Name: "serving", Do: func(context.Context) error {
		if serving.Err() != nil {
			return errors.New("stopping")
		}
		return nil
	}}
	return rpc.OpsHandler(append([]rpc.Check{stopping}, checks...), sh.Telemetry.MetricsHandler())
}

func safely(ctx context.Context, t Task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	err = t.Run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it was told to stop
	}
	return err
}

// firstError keeps the first failure and stops the service at it.
type firstError struct {
	stop func()
	mu   sync.Mutex
	err  error
}

func (f *firstError) note(name string, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = fmt.Errorf("%s: %w", name, err)
	}
	f.stop()
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// ends waits for wg, but no longer than limit.
func ends(wg *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
