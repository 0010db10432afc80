// Package api is the published contract over the gateway's own domain. One set
// of structs serves gRPC, Connect and REST.
package api

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

// Counter counts calls against the caller's rate limits.
type Counter interface {
	Allow(ctx context.Context, p identity.Principal, calls int) error
}

// Governance is fulcrum.governance.v1.GovernanceService.
type Governance struct {
	governancev1.UnimplementedGovernanceServiceServer
	pipeline *decision.Pipeline
	store    *postgres.Store
	limits   Counter
}

// NewGovernance returns the service over its parts.
func NewGovernance(p *decision.Pipeline, store *postgres.Store, limits Counter) *Governance {
	return &Governance{pipeline: p, store: store, limits: limits}
}

// Authorize implements GovernanceService.
func (g *Governance) Authorize(ctx context.Context, req *governancev1.AuthorizeRequest) (*governancev1.AuthorizeResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return g.pipeline.Authorize(ctx, who, req)
}

// batchWidth is how many actions of a batch are decided at a time: enough for
// their commits to be shared, not enough to crowd out other callers.
const batchWidth = 16

// AuthorizeBatch implements GovernanceService.
func (g *Governance) AuthorizeBatch(ctx context.Context, req *governancev1.AuthorizeBatchRequest) (*governancev1.AuthorizeBatchResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.limits.Allow(ctx, who, len(req.GetRequests())-1); err != nil {
		return nil, err
	}
	resp := &governancev1.AuthorizeBatchResponse{Results: make([]*governancev1.AuthorizeResult, len(req.GetRequests()))}
	width := make(chan struct{}, batchWidth)
	var all sync.WaitGroup
	for i, one := range req.GetRequests() {
		width <- struct{}{}
		all.Go(func() {
			defer func() { <-width }()
			resp.Results[i] = g.authorizeOne(ctx, who, one)
		})
	}
	all.Wait()
	return resp, nil
}

func (g *Governance) authorizeOne(ctx context.Context, who identity.Principal, req *governancev1.AuthorizeRequest) (r *governancev1.AuthorizeResult) {
	resp, err := g.pipeline.Authorize(ctx, who, req)
	if err == nil {
		return &governancev1.AuthorizeResult{Response: resp}
	}
	s := rpc.ToStatus(err)
	return &governancev1.AuthorizeResult{Code: int32(s.Code()), Message: s.Message()}
}

// Settle implements GovernanceService.
func (g *Governance) Settle(ctx context.Context, req *governancev1.SettleRequest) (*governancev1.SettleResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return g.pipeline.Settle(ctx, who, req)
}

// Release implements GovernanceService.
func (g *Governance) Release(ctx context.Context, req *governancev1.ReleaseRequest) (*governancev1.ReleaseResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return g.pipeline.Release(ctx, who, req)
}

// Renew implements GovernanceService.
func (g *Governance) Renew(ctx context.Context, req *governancev1.RenewRequest) (*governancev1.RenewResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return g.pipeline.Renew(ctx, who, req)
}

// GetDecision implements GovernanceService.
func (g *Governance) GetDecision(ctx context.Context, req *governancev1.GetDecisionRequest) (*governancev1.GetDecisionResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	id := uuid.MustParse(req.GetDecisionId()) // validated
	d, _, err := g.store.LoadDecision(ctx, tenant, id, decision.Query{})
	if err != nil {
		return nil, err
	}
	if d.ID == uuid.Nil {
		return nil, decision.ErrNotFound(id)
	}
	return &governancev1.GetDecisionResponse{Decision: recordOf(d)}, nil
}

// ListDecisions implements GovernanceService.
func (g *Governance) ListDecisions(ctx context.Context, req *governancev1.ListDecisionsRequest) (*governancev1.ListDecisionsResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	after, err := position(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	f := postgres.DecisionFilter{
		Envelope: orNil(req.GetEnvelopeId()), AgentID: req.GetAgentId(), From: timeOf(req.GetStartTime()), To: timeOf(req.GetEndTime()),
	}
	if req.GetDecision() != governancev1.Decision_DECISION_UNSPECIFIED {
		f.Decision = decision.Name(req.GetDecision())
	}
	size := pageSize(req.GetPageSize(), 100, 1000)
	list, err := g.store.Decisions(ctx, tenant, f, after, size+1)
	if err != nil {
		return nil, err
	}
	resp := &governancev1.ListDecisionsResponse{}
	for i, d := range list {
		if i == size {
			last := list[size-1]
			resp.NextPageToken = token(postgres.Position{At: last.DecidedAt, ID: last.ID})
			break
		}
		resp.Decisions = append(resp.Decisions, recordOf(d))
	}
	return resp, nil
}

func recordOf(d decision.Record) *governancev1.DecisionRecord {
	return &governancev1.DecisionRecord{
		Response: d.Response, Action: d.Facts.GetAction(), AgentId: d.Facts.GetAgentId(), KeyId: d.KeyID, UserId: d.Facts.GetUserId(),
		WorkflowId: d.Facts.GetWorkflowId(), DecidedAt: timestamppb.New(d.DecidedAt), Attributes: d.Facts.GetAttributes(),
		Estimate: d.Facts.GetEstimate(),
	}
}

// FilterTools implements GovernanceService. Each tool counts as a call.
func (g *Governance) FilterTools(ctx context.Context, req *governancev1.FilterToolsRequest) (*governancev1.FilterToolsResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.limits.Allow(ctx, who, len(req.GetTools())-1); err != nil {
		return nil, err
	}
	return g.pipeline.Filter(ctx, who, req)
}

// look is how often a waiting stream looks at what it waits for. A change made
// by this instance or another is seen within it.
const look = 500 * time.Millisecond

// WaitForApproval implements GovernanceService.
func (g *Governance) WaitForApproval(req *governancev1.WaitForApprovalRequest, stream grpc.ServerStreamingServer[governancev1.WaitForApprovalResponse]) error {
	return g.Wait(stream.Context(), req, stream.Send)
}

// Wait is WaitForApproval for any kind of stream.
func (g *Governance) Wait(ctx context.Context, req *governancev1.WaitForApprovalRequest, send func(*governancev1.WaitForApprovalResponse) error) error {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return err
	}
	id := uuid.MustParse(req.GetApprovalId()) // validated
	cursor := req.GetCursor()
	return poll(ctx, look, func(first bool) (done bool, err error) {
		a, err := g.store.Approval(ctx, tenant, id)
		if err != nil {
			return false, skipOutage(err, first)
		}
		now := approvalCursor(a)
		if now == cursor && !(first && answered(a.State)) {
			return false, nil
		}
		cursor = now
		return answered(a.State), send(&governancev1.WaitForApprovalResponse{
			ApprovalId: a.ID.String(), State: a.State.Proto(), ReviewerId: a.ReviewerID, ReviewNote: a.ReviewNote,
			ChangedAt: timestamppb.New(a.UpdatedAt), Cursor: cursor, Votes: a.Votes, Quorum: a.Quorum,
		})
	})
}

// poll calls f now and then at every tick, until it is done, fails, the caller
// leaves or the server stops.
func poll(ctx context.Context, every time.Duration, f func(first bool) (done bool, err error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		if done, err := f(first); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rpc.Draining(ctx):
			return fault.New(fault.Down, "this instance is stopping").WithReason("STOPPING").
				WithHint("Connect again with the last cursor.")
		case <-tick.C:
		}
	}
}

// skipOutage lets a stream that is under way wait out a database that is away.
func skipOutage(err error, first bool) error {
	if !first && fault.Is(err, fault.Down) {
		return nil
	}
	return err
}
