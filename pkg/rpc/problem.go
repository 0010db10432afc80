package rpc

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
)

// Problem is the body of a failed HTTP answer: RFC 9457 with our facts beside.
type Problem struct {
	Type       string             `json:"type"`  // always about:blank: code and reason tell problems apart
	Title      string             `json:"title"` // the HTTP status in words
	Status     int                `json:"status"`
	Detail     string             `json:"detail"`
	Code       string             `json:"code"`   // the gRPC code, like NOT_FOUND
	Reason     string             `json:"reason"` // stable, like BUDGET_EXCEEDED
	Hint       string             `json:"hint,omitempty"`
	Violations []ProblemViolation `json:"violations,omitempty"`
	Meta       map[string]string  `json:"metadata,omitempty"`
	RetryAfter float64            `json:"retry_after_seconds,omitempty"`
	RequestID  string             `json:"request_id,omitempty"`
}

// ProblemViolation is one thing wrong with one field.
type ProblemViolation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

// ProblemOf says what an HTTP caller learns of err: as much as ToStatus tells
// a gRPC caller.
func ProblemOf(err error) Problem {
	s := ToStatus(err)
	p := Problem{
		Type:   "about:blank",
		Status: httpOfCode(s.Code()),
		Detail: s.Message(),
		Code:   code.Code(s.Code()).String(),
	}
	if p.Title = http.StatusText(p.Status); p.Title == "" {
		p.Title = "Client Closed Request"
	}
	_, f := restore(s)
	if p.Reason = f.Reason; p.Reason == "" {
		p.Reason = p.Code
	}
	p.Hint, p.Meta, p.RetryAfter = f.Hint, f.Meta, f.RetryAfter.Seconds()
	for _, v := range f.Violations {
		p.Violations = append(p.Violations, ProblemViolation(v))
	}
	return p
}

// WriteProblem answers an HTTP request that failed with application/problem+json.
// It does not log: call LogFailure.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemOf(err)
	p.RequestID = RequestID(w, r)
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="fulcrum"`)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter))))
	}
	h.Del("Content-Length")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client went away
}

// RequestID is what ties an answer to our logs: the X-Request-Id that the
// answer carries already, else the trace id.
func RequestID(w http.ResponseWriter, r *http.Request) string {
	if id := w.Header().Get("X-Request-Id"); id != "" {
		return id
	}
	return telemetry.TraceID(r.Context())
}
