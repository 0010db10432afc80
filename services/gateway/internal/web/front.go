// Package web is the gateway's HTTP side: REST, Connect, gRPC-Web and gRPC over
// HTTP, all over the structs that serve native gRPC, behind the same guard.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"path"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/api"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/door"
)

// Options are what the front is made of.
type Options struct {
	Services  api.Services
	Guard     *door.Guard
	Ledger    decision.Ledger // for the budget side door
	Log       *slog.Logger
	Telemetry *telemetry.Telemetry
	Origins   []string // that may call from a browser
	PublicURL string   // where callers find this front; "": where they say they did
	Version   string
	Vital     []rpc.Check // without them nothing works
	Useful    []rpc.Check // without them some things do not
}

type front struct {
	o    Options
	rest map[string]string // "POST /v1/envelopes" to the rpc
}

// New returns the handler of the HTTP port.
func New(o Options) (http.Handler, error) {
	f := &front{o: o}
	rest, err := f.newREST()
	if err != nil {
		return nil, fmt.Errorf("mount REST: %w", err)
	}
	mux := http.NewServeMux()
	f.mountConnect(mux)
	h := newHealth(o)
	mux.HandleFunc("GET /livez", h.live)
	mux.HandleFunc("GET /readyz", h.ready)
	mux.HandleFunc("GET /health", h.health)
	mux.Handle("GET /metrics", o.Telemetry.MetricsHandler())
	mux.HandleFunc("POST /api/v1/cost/record", f.recordCost)
	mux.HandleFunc("POST /v1/cost/record", f.recordCost)
	f.mountAuthZEN(mux)
	mux.Handle("/v1/", rest)
	mux.Handle("/api/v1/", http.StripPrefix("/api", rest))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { f.noRoute(w, r, http.StatusNotFound) })

	return otelhttp.NewHandler(f.outer(f.cors(mux)), "http",
		otelhttp.WithTracerProvider(o.Telemetry.TracerProvider()),
		otelhttp.WithMeterProvider(o.Telemetry.MeterProvider()),
		otelhttp.WithPropagators(o.Telemetry.Propagator()),
		otelhttp.WithFilter(func(r *http.Request) bool { return strings.Count(r.URL.Path, "/") > 1 }), // not probes
	), nil
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// outer is around everything: request ids, recovery, paths and bodies as they
// should be, no headers that only our own services may send.
func (f *front) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !requestID.MatchString(id) {
			id = uuid.NewString()
		}
		w.Header().Set("X-Request-Id", id)
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				rpc.WriteProblem(w, r, f.panicked(r.Context(), r.URL.Path, p))
			}
		}()
		for name := range r.Header {
			if door.Ours(name) {
				r.Header.Del(name)
			}
		}
		if clean := path.Clean(r.URL.Path); clean != r.URL.Path || r.URL.RawPath != "" {
			f.noRoute(w, r, http.StatusBadRequest)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &limitedBody{ReadCloser: http.MaxBytesReader(w, r.Body, bodyLimit(r))}
		}
		next.ServeHTTP(w, r)
	})
}

// bodyLimit is the largest body: one message, for rpcs with a frame around it.
func bodyLimit(r *http.Request) int64 {
	if strings.HasPrefix(r.URL.Path, "/fulcrum.") {
		return rpc.MaxMessage + 64
	}
	return rpc.MaxMessage
}

// limitedBody remembers that there was more than may be read.
type limitedBody struct {
	io.ReadCloser
	over bool
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		b.over = true
	}
	return n, err
}

func tooLarge(r *http.Request) bool {
	b, ok := r.Body.(*limitedBody)
	return ok && b.over
}

var errTooLarge = fault.New(fault.Exhausted, "the request is larger than %d bytes", rpc.MaxMessage).WithReason("MESSAGE_TOO_LARGE")

// admit asks the guard, once it is known which method is called.
func (f *front) admit(r *http.Request, method string) (context.Context, error) {
	if r.ContentLength > bodyLimit(r) {
		return nil, errTooLarge
	}
	shown, err := credential.Find(r.Header.Values("Authorization"), r.Header.Values("X-Api-Key"))
	return f.o.Guard.Admit(r.Context(), method, shown, err)
}

// check is what every request is put through, whichever door it came by.
func (f *front) check(ctx context.Context, req any) error {
	if err := door.Check(ctx, req); err != nil {
		return err
	}
	return rpc.Validate(req)
}

// around is check for REST calls.
func (f *front) around(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := f.check(ctx, req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// problem answers a REST call that failed, and logs it.
func (f *front) problem(w http.ResponseWriter, r *http.Request, method string, err error) {
	rpc.LogFailure(r.Context(), f.o.Log, method, err)
	if fault.HasReason(err, errTooLarge.Reason) {
		p := rpc.ProblemOf(err)
		p.Status, p.Title = http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge)
		writeProblem(w, r, p)
		return
	}
	rpc.WriteProblem(w, r, err)
}

// writeProblem is rpc.WriteProblem with a status that is HTTP's own.
func writeProblem(w http.ResponseWriter, r *http.Request, p rpc.Problem) {
	p.RequestID = rpc.RequestID(w, r)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client went away
}

func (f *front) panicked(ctx context.Context, method string, p any) error {
	f.o.Log.LogAttrs(ctx, slog.LevelError, "call panicked",
		slog.String("method", method), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	return errors.New("internal error")
}

// cors lets pages of the configured origins call. None are configured at first.
func (f *front) cors(next http.Handler) http.Handler {
	if len(f.o.Origins) == 0 {
		return next
	}
	allowed := make(map[string]bool, len(f.o.Origins))
	for _, o := range f.o.Origins {
		allowed[o] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); allowed[origin] {
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, PUT, DELETE")
				h.Set("Access-Control-Allow-Headers", "Authorization, X-Api-Key, X-Request-Id, Content-Type, Idempotency-Key, "+
					"Connect-Protocol-Version, Connect-Timeout-Ms, X-Grpc-Web, X-User-Agent, Grpc-Timeout")
				h.Set("Access-Control-Max-Age", "7200")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

func clip(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "?") + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
