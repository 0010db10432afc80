// Package extauthz is Envoy's external authorization: every request that a
// proxy holds up becomes an action, and is let through or answered by what is
// decided about it.
package extauthz

import (
	"context"
	"log/slog"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// Door lets callers in: see door.Guard.
type Door interface {
	Admit(ctx context.Context, method, shown string, missing error) (context.Context, error)
}

// Governance decides, and gives back what a decision holds.
type Governance interface {
	Authorize(context.Context, *governancev1.AuthorizeRequest) (*governancev1.AuthorizeResponse, error)
	Release(context.Context, *governancev1.ReleaseRequest) (*governancev1.ReleaseResponse, error)
}

// Server is envoy.service.auth.v3.Authorization.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	door       Door
	governance Governance
	check      func(context.Context, proto.Message) error
	log        *slog.Logger
}

// New returns a Server. check is what requests of every door are put through.
func New(door Door, governance Governance, check func(context.Context, proto.Message) error, log *slog.Logger) *Server {
	return &Server{door: door, governance: governance, check: check, log: log}
}

// Check implements authv3.AuthorizationServer. Envoy's call itself shows no
// credential: the agent's is in the request that is asked about. It never
// fails: to an error Envoy may answer by letting the request through, to a
// denial it cannot.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (out *authv3.CheckResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "call panicked", slog.String("method", authv3.Authorization_Check_FullMethodName), slog.Any("panic", p))
			out, err = refused(errPanicked), nil
		}
	}()
	out, err = s.decide(ctx, in)
	if err != nil {
		rpc.LogFailure(ctx, s.log, authv3.Authorization_Check_FullMethodName, err)
		return refused(err), nil
	}
	return out, nil
}

func (s *Server) decide(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	http := in.GetAttributes().GetRequest().GetHttp()
	headers := headersOf(http)
	shown, missing := credential.Find(headers["authorization"], headers["x-api-key"])
	ctx, err := s.door.Admit(ctx, authv3.Authorization_Check_FullMethodName, shown, missing)
	if err != nil {
		return nil, err
	}
	req, err := actionOf(in.GetAttributes(), headers)
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, req); err != nil {
		return nil, err
	}
	resp, err := s.governance.Authorize(ctx, req)
	if err != nil {
		return nil, err
	}
	if change := decision.Changed(resp); change != "" {
		s.notActed(ctx, resp, change)
		return denied(resp, "allowed only with the obligation "+change+", which a proxy cannot carry out"), nil
	}
	if !decision.Acts(resp.GetDecision()) {
		return denied(resp, ""), nil
	}
	return allowed(resp, headers), nil
}

// notActed gives back what is held for a request that is not let through.
// Should that fail, the hold expires.
func (s *Server) notActed(ctx context.Context, resp *governancev1.AuthorizeResponse, change string) {
	if !decision.Took(resp) {
		return
	}
	_, err := s.governance.Release(ctx, &governancev1.ReleaseRequest{
		DecisionId: resp.GetDecisionId(), Reason: "a proxy cannot carry out the obligation " + change, IdempotencyKey: "unmet:" + resp.GetDecisionId(),
	})
	if err != nil {
		rpc.LogFailure(ctx, s.log, governancev1.GovernanceService_Release_FullMethodName, err)
	}
}
