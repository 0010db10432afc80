package web

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/rpc"
)

// health says how the gateway and what it depends on are.
type health struct {
	o  Options
	mu sync.Mutex // guards the rest: one look at a time, kept for a second
	at time.Time
	is report
}

// report is the body of /health.
type report struct {
	Status   string            `json:"status"` // ok, degraded or unavailable
	Version  string            `json:"version"`
	Services map[string]string `json:"services"` // ok or unavailable
}

func newHealth(o Options) *health { return &health{o: o} }

func (h *health) live(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready is whether calls should come here: whether what is vital works.
func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	is := h.look(r.Context())
	if is.Status == "unavailable" {
		answer(w, http.StatusServiceUnavailable, is)
		return
	}
	answer(w, http.StatusOK, is)
}

func (h *health) health(w http.ResponseWriter, r *http.Request) { h.ready(w, r) }

// look asks every dependency, all at once, at most once a second: the question
// is anybody's, and must not be a way to keep us busy.
func (h *health) look(ctx context.Context) report {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < time.Second {
		return h.is
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	all := append(append([]rpc.Check{}, h.o.Vital...), h.o.Useful...)
	errs := make([]error, len(all))
	var asked sync.WaitGroup
	for i, c := range all {
		asked.Go(func() { errs[i] = c.Do(ctx) })
	}
	asked.Wait()
	is := report{Status: healthy, Version: h.o.Version, Services: make(map[string]string, len(all))}
	for i, c := range all {
		is.Services[c.Name] = "ok"
		if errs[i] == nil {
			continue
		}
		is.Services[c.Name] = "unavailable"
		if i < len(h.o.Vital) {
			is.Status = "unavailable"
		} else if is.Status == healthy {
			is.Status = "degraded"
		}
	}
	h.is, h.at = is, time.Now()
	return is
}

// healthy is what the published /health says when all is well.
const healthy = "healthy"

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client went away
}
