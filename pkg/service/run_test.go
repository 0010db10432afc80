package service

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
)

// story is what happened, in order.
type story struct {
	mu    sync.Mutex
	lines []string
}

func (s *story) tell(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *story) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// open returns a shell whose listeners are on ports of the system's choice.
func open(t *testing.T) (sh *Shell, ops func() string) {
	t.Helper()
	opened := make(chan string, 8)
	env := Env{
		Getenv: config.Map(map[string]string{"FULCRUM_DRAIN": "5s"}),
		Log:    slog.New(slog.DiscardHandler),
		Listen: func(ctx context.Context, _ string) (net.Listener, error) {
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err == nil {
				opened <- ln.Addr().String()
			}
			return ln, err
		},
	}
	sh, err := Open(t.Context(), env, "budget")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sh.Close)
	return sh, func() string { return <-opened }
}

func TestWorkersOutliveTheCallsThatNeedThem(t *testing.T) {
	t.Parallel()
	sh, ops := open(t)
	var s story
	up := make(chan struct{}, 2)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- sh.Run(ctx, Plan{
			Fronts: []Task{{"front", func(ctx context.Context) error {
				up <- struct{}{}
				<-ctx.Done()
				if err := Healthcheck(context.WithoutCancel(ctx), ops()); err == nil || !strings.Contains(err.Error(), "stopping") {
					t.Errorf("while draining, ready says %v", err)
				}
				s.tell("front drained")
				return nil
			}}},
			Workers: []Task{{"worker", func(ctx context.Context) error {
				up <- struct{}{}
				<-ctx.Done()
				s.tell("worker ended")
				return ctx.Err()
			}}},
		})
	}()
	<-up
	<-up
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if want := []string{"front drained", "worker ended"}; !slices.Equal(s.told(), want) {
		t.Errorf("story %v, want %v", s.told(), want)
	}
}

func TestATaskThatFailsStopsTheServiceAndIsNamed(t *testing.T) {
	t.Parallel()
	forever := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for _, tt := range []struct {
		name string
		plan Plan
		want string // "" means it goes on
	}{
		{"a worker", Plan{Workers: []Task{{"relay", func(context.Context) error { return errors.New("no stream") }}}}, "relay: no stream"},
		{"a front", Plan{Fronts: []Task{{"http", func(context.Context) error { return errors.New("no port") }}, {"other", forever}}}, "http: no port"},
		{"a panic", Plan{Workers: []Task{{"sweeper", func(context.Context) error { panic("nil map") }}}}, "sweeper: panic: nil map"},
		{"one that was done early does not", Plan{Workers: []Task{{"once", func(context.Context) error { return nil }}}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sh, ops := open(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			done := make(chan error, 1)
			go func() { done <- sh.Run(ctx, tt.plan) }()
			if tt.want == "" {
				if err := Healthcheck(t.Context(), ops()); err != nil {
					t.Error(err)
				}
				stop()
			}
			err := <-done
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
				t.Errorf("Run = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAServiceServesIsReadyIsMeasuredAndStops(t *testing.T) {
	t.Parallel()
	sh, addr := open(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	watched := make(chan struct{}, 100)
	go func() {
		done <- sh.Run(ctx, Plan{
			GRPC: sh.Server(), Addr: "127.0.0.1:50053",
			Checks: []rpc.Check{{Name: "postgres", Do: func(context.Context) error { watched <- struct{}{}; return nil }}},
		})
	}()
	ops, grpcAddr := addr(), addr()
	<-watched // by the health watch; the answer follows at once
	conn, err := sh.Dial(grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := health.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			break
		}
	}
	if err := Healthcheck(t.Context(), ops); err != nil {
		t.Error(err)
	}
	resp, err := http.Get("http://" + ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.Contains(string(body), `service_name="budget"`) {
		t.Errorf("metrics:\n%s", body)
	}
	begin := time.Now()
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("stopping took %v: a client that watches our health held it up", took)
	}
	if err := Healthcheck(t.Context(), ops); err == nil {
		t.Error("the operational port still answers")
	}
}

func TestAnAddressInUseIsNamed(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for key, plan := range map[string]Plan{
		"BUDGET_OPS_ADDR": {},
		"OTHER":           {GRPC: rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)}), Addr: ln.Addr().String()},
	} {
		vars := map[string]string{"BUDGET_OPS_ADDR": "127.0.0.1:0"}
		if key == "BUDGET_OPS_ADDR" {
			vars[key] = ln.Addr().String()
		}
		sh, err := Open(t.Context(), Env{Getenv: config.Map(vars)}, "budget")
		if err != nil {
			t.Fatal(err)
		}
		if err := sh.Run(t.Context(), plan); err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%s: %v", key, err)
		}
		sh.Close()
	}
}
