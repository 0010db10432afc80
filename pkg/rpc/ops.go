package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// ServeOps serves OpsHandler on addr until ctx ends.
func ServeOps(ctx context.Context, addr string, checks []Check, metrics http.Handler) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for operations: %w", err)
	}
	return ServeHTTP(ctx, OpsHandler(checks, metrics), ln, time.Second)
}

// OpsHandler answers the questions of whoever runs the service:
//
//	/livez    200 while the process runs
//	/readyz   200 while every check passes, else 503; says which, and how long each took
//	/metrics  what metrics serves; absent if nil
func OpsHandler(checks []Check, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, readiness{Status: "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		verdicts := probe(r.Context(), checks)
		code, body := http.StatusOK, readiness{Status: "ok"}
		for _, v := range verdicts {
			c := checked{Name: v.name, OK: v.err == nil, LatencyMS: float64(v.took.Microseconds()) / 1000}
			if v.err != nil {
				c.Error = v.err.Error()
				code, body.Status = http.StatusServiceUnavailable, "unavailable"
			}
			body.Checks = append(body.Checks, c)
		}
		writeJSON(w, code, body)
	})
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	return mux
}

type readiness struct {
	Status string    `json:"status"`
	Checks []checked `json:"checks,omitempty"`
}

type checked struct {
	Name      string  `json:"name"`
	OK        bool    `json:"ok"`
	Error     string  `json:"error,omitempty"`
	LatencyMS float64 `json:"latency_ms"`
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client went away
}
