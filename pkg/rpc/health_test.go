package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestWatchFollowsItsChecksAndLogsChangesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		var log record
		hs := health.NewServer()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Watch(ctx, hs, log.logger(), 5*time.Second,
				Check{"database", func(context.Context) error {
					if broken.Load() {
						return errors.New("no database")
					}
					return nil
				}},
				Check{"nats", func(context.Context) error { return nil }})
		}()
		status := func() healthpb.HealthCheckResponse_ServingStatus {
			synctest.Wait()
			resp, err := hs.Check(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetStatus()
		}
		if got := status(); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("at start: %v", got)
		}
		time.Sleep(30 * time.Second)
		broken.Store(true)
		time.Sleep(5 * time.Second)
		if got := status(); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("with a failing check: %v", got)
		}
		broken.Store(false)
		time.Sleep(5 * time.Second)
		if got := status(); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("when it is well again: %v", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
		if n := strings.Count(log.String(), `"msg":"health"`); n != 3 || !strings.Contains(log.String(), "database: no database") {
			t.Errorf("%d records:\n%s", n, log.String())
		}
	})
}

func TestACheckThatHangsHidesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		verdicts := probe(t.Context(), []Check{
			{"stuck", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			{"stuck too", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			{"well", func(context.Context) error { return nil }},
		})
		if took := time.Since(begin); took != checkTimeout {
			t.Errorf("it took %v", took)
		}
		if verdicts[0].err == nil || verdicts[1].err == nil || verdicts[2].err != nil || verdicts[2].took != 0 {
			t.Errorf("%+v", verdicts)
		}
	})
}

func TestOperatorsAreToldWhichCheckFails(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	h := OpsHandler([]Check{
		{"postgres", func(context.Context) error { return nil }},
		{"nats", func(context.Context) error {
			if broken.Load() {
				return errors.New("no responders")
			}
			return nil
		}},
	}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "metric 1") }))
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := ask("/readyz"); code != http.StatusOK {
		t.Errorf("all well: %d %s", code, body)
	}
	broken.Store(true)
	code, body := ask("/readyz")
	var got readiness
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if code != http.StatusServiceUnavailable || len(got.Checks) != 2 || !got.Checks[0].OK || got.Checks[1].OK || got.Checks[1].Error != "no responders" {
		t.Errorf("one is not: %d %s", code, body)
	}
	if code, _ := ask("/livez"); code != http.StatusOK {
		t.Errorf("alive all the same: %d", code)
	}
	if _, body := ask("/metrics"); body != "metric 1" {
		t.Errorf("metrics: %s", body)
	}
	if code, _ := ask("/other"); code != http.StatusNotFound {
		t.Errorf("other: %d", code)
	}
}

func TestServeOpsServesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ServeOps(t.Context(), ln.Addr().String(), nil, nil); err == nil {
		t.Error("an address in use was not noticed")
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeOps(ctx, addr, nil, nil) }()
	stop()
	if err := <-done; err != nil {
		t.Errorf("ServeOps: %v", err)
	}
}
