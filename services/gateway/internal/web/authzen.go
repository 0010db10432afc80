package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/strictjson"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/authzen"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/door"
)

const (
	evaluationPath  = "/access/v1/evaluation"
	evaluationsPath = "/access/v1/evaluations"
)

// mountAuthZEN serves the OpenID AuthZEN Authorization API.
func (f *front) mountAuthZEN(mux *http.ServeMux) {
	mux.HandleFunc("POST "+evaluationPath, f.authZEN(door.AccessEvaluation, func(r *http.Request, in authzen.Request) (any, error) {
		return f.evaluateOne(r.Context(), in.Evaluation, r.Header.Get("Idempotency-Key"))
	}))
	mux.HandleFunc("POST "+evaluationsPath, f.authZEN(door.AccessEvaluations, f.evaluateAll))
	mux.HandleFunc("GET /.well-known/authzen-configuration", f.authZENConfiguration)
}

// authZENConfiguration says where the API is. It names the operator's address,
// and without one the address that the caller used.
func (f *front) authZENConfiguration(w http.ResponseWriter, r *http.Request) {
	base := f.o.PublicURL
	if base == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		base = scheme + "://" + r.Host
	}
	answer(w, http.StatusOK, map[string]string{
		"policy_decision_point":       base,
		"access_evaluation_endpoint":  base + evaluationPath,
		"access_evaluations_endpoint": base + evaluationsPath,
	})
}

// authZEN is what both endpoints have around them.
func (f *front) authZEN(method string, serve func(*http.Request, authzen.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, err := f.admit(r, method)
		if err == nil {
			r = r.WithContext(ctx)
			var in authzen.Request
			if in, err = f.readAuthZEN(r); err == nil {
				var out any
				if out, err = serve(r, in); err == nil {
					answer(w, http.StatusOK, out)
					return
				}
			}
		}
		f.problem(w, r, method, err)
	}
}

func (f *front) readAuthZEN(r *http.Request) (in authzen.Request, err error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return in, fault.Field("content-type", "must be application/json").WithReason("REQUEST_MALFORMED")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return in, f.unreadable(r, err.Error())
	}
	if err := strictjson.UniqueFolded(body); err != nil {
		return in, unreadable(err.Error())
	}
	if err := json.Unmarshal(body, &in); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return in, fault.Field(wrong.Field, "is a %s, and must not be", wrong.Value).WithReason("REQUEST_MALFORMED")
		}
		return in, unreadable(err.Error())
	}
	return in, in.Check()
}

// evaluateOne decides one question as Authorize does. Without an idempotency
// key every question is one of its own.
func (f *front) evaluateOne(ctx context.Context, e authzen.Evaluation, key string) (authzen.Answer, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return authzen.Answer{}, err
	}
	req, as, err := e.Authorize(who)
	if err != nil {
		return authzen.Answer{}, err
	}
	ctx = identity.With(ctx, as)
	if req.GetIdempotencyKey() == "" {
		if req.IdempotencyKey = key; key == "" {
			req.IdempotencyKey = uuid.NewString()
		}
	}
	if err := f.check(ctx, req); err != nil {
		return authzen.Answer{}, err
	}
	resp, err := f.o.Services.Governance.Authorize(ctx, req)
	if err != nil {
		return authzen.Answer{}, err
	}
	if change := decision.Changed(resp); change != "" {
		f.notActed(ctx, resp, change)
		return authzen.Unmet(resp, change), nil
	}
	return authzen.AnswerOf(resp), nil
}

// notActed gives back what a decision holds that this door turned into a no.
// Should that fail, the hold expires.
func (f *front) notActed(ctx context.Context, resp *governancev1.AuthorizeResponse, change string) {
	if !decision.Took(resp) {
		return
	}
	_, err := f.o.Services.Governance.Release(ctx, &governancev1.ReleaseRequest{
		DecisionId: resp.GetDecisionId(), Reason: "the door cannot carry the obligation " + change, IdempotencyKey: "unmet:" + resp.GetDecisionId(),
	})
	if err != nil {
		rpc.LogFailure(ctx, f.o.Log, governancev1.GovernanceService_Release_FullMethodName, err)
	}
}

// evaluationsWidth is how many questions of a batch are decided at a time.
const evaluationsWidth = 16

// evaluateAll decides a batch; one without evaluations is a single question.
func (f *front) evaluateAll(r *http.Request, in authzen.Request) (any, error) {
	ctx, key, n := r.Context(), r.Header.Get("Idempotency-Key"), len(in.Evaluations)
	if n == 0 {
		return f.evaluateOne(ctx, in.Evaluation, key)
	}
	if err := f.o.Guard.Count(ctx, n-1); err != nil {
		return nil, err
	}
	at := func(i int) authzen.Answer {
		e, err := in.At(i)
		if err == nil {
			own := key
			if own != "" {
				own = fmt.Sprintf("%s#%d", key, i)
			}
			var a authzen.Answer
			if a, err = f.evaluateOne(ctx, e, own); err == nil {
				return a
			}
		}
		rpc.LogFailure(ctx, f.o.Log, door.AccessEvaluations, err)
		p := rpc.ProblemOf(err)
		return authzen.Failed(p.Status, p.Reason, p.Detail)
	}
	out := authzen.Answers{Evaluations: make([]authzen.Answer, 0, n)}
	if in.Options.Semantic == authzen.DenyOnFirstDeny || in.Options.Semantic == authzen.PermitOnFirstPermit {
		for i := range n { // in order: what comes after the end must not be decided
			a := at(i)
			out.Evaluations = append(out.Evaluations, a)
			if in.Options.Semantic.Ends(a.Decision) {
				break
			}
		}
		return out, nil
	}
	out.Evaluations = out.Evaluations[:n]
	width := make(chan struct{}, evaluationsWidth)
	var all sync.WaitGroup
	for i := range n {
		width <- struct{}{}
		all.Go(func() {
			defer func() { <-width }()
			out.Evaluations[i] = at(i)
		})
	}
	all.Wait()
	return out, nil
}
