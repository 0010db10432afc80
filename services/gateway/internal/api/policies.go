package api

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

// Policies is fulcrum.policy.v1.PolicyService: it evaluates and holds approvals
// itself, and leaves the policies to the control plane.
type Policies struct {
	policyv1.UnimplementedPolicyServiceServer
	pipeline *decision.Pipeline
	store    *postgres.Store
	policies policyv1.PolicyServiceClient
}

// NewPolicies returns the service over its parts.
func NewPolicies(p *decision.Pipeline, store *postgres.Store, policies policyv1.PolicyServiceClient) *Policies {
	return &Policies{pipeline: p, store: store, policies: policies}
}

// CreatePolicy implements PolicyService.
func (s *Policies) CreatePolicy(ctx context.Context, req *policyv1.CreatePolicyRequest) (*policyv1.CreatePolicyResponse, error) {
	return s.policies.CreatePolicy(ctx, req)
}

// GetPolicy implements PolicyService.
func (s *Policies) GetPolicy(ctx context.Context, req *policyv1.GetPolicyRequest) (*policyv1.GetPolicyResponse, error) {
	return s.policies.GetPolicy(ctx, req)
}

// UpdatePolicy implements PolicyService.
func (s *Policies) UpdatePolicy(ctx context.Context, req *policyv1.UpdatePolicyRequest) (*policyv1.UpdatePolicyResponse, error) {
	return s.policies.UpdatePolicy(ctx, req)
}

// DeletePolicy implements PolicyService.
func (s *Policies) DeletePolicy(ctx context.Context, req *policyv1.DeletePolicyRequest) (*policyv1.DeletePolicyResponse, error) {
	return s.policies.DeletePolicy(ctx, req)
}

// ListPolicies implements PolicyService.
func (s *Policies) ListPolicies(ctx context.Context, req *policyv1.ListPoliciesRequest) (*policyv1.ListPoliciesResponse, error) {
	return s.policies.ListPolicies(ctx, req)
}

// EvaluatePolicy implements PolicyService. Published clients name no policy:
// then all active ones decide together.
func (s *Policies) EvaluatePolicy(ctx context.Context, req *policyv1.EvaluatePolicyRequest) (*policyv1.EvaluatePolicyResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	q := decision.Question{Context: req.GetContext(), DryRun: req.GetDryRun()}
	if req.GetPolicyId() != "" {
		q.PolicyIDs = []string{req.GetPolicyId()}
	}
	answer, err := s.pipeline.Evaluate(ctx, who, q)
	if err != nil {
		return nil, err
	}
	return &policyv1.EvaluatePolicyResponse{Result: overall(req.GetPolicyId(), req.GetContext(), answer)}, nil
}

// EvaluatePolicies implements PolicyService.
func (s *Policies) EvaluatePolicies(ctx context.Context, req *policyv1.EvaluatePoliciesRequest) (*policyv1.EvaluatePoliciesResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := s.pipeline.Evaluate(ctx, who, decision.Question{
		PolicyIDs: req.GetPolicyIds(), Context: req.GetContext(), StopOnDeny: req.GetStopOnDeny(), DryRun: req.GetDryRun(),
	})
	if err != nil {
		return nil, err
	}
	resp := &policyv1.EvaluatePoliciesResponse{FinalDecision: evaluation(answer.Result.GetDecision())}
	for _, r := range answer.Result.GetResults() {
		if r.GetOutcome() == policyenginev1.PolicyOutcome_POLICY_OUTCOME_SKIPPED {
			continue
		}
		resp.Results = append(resp.Results, single(r, req.GetContext(), answer))
		if r.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_SHADOW {
			resp.Actions = append(resp.Actions, r.GetActions()...)
		}
	}
	return resp, nil
}

// overall is the answer of all policies in the shape of one policy's.
func overall(policyID string, c *policyv1.EvaluationContext, a *decision.Answer) *policyv1.EvaluationResult {
	out := &policyv1.EvaluationResult{
		PolicyId: policyID, Decision: evaluation(a.Result.GetDecision()), Metadata: about(a), EvaluatedAt: timestamppb.New(a.At),
		EvaluationDurationMs: (a.Result.GetEvaluatedUs() + 999) / 1000, Context: c,
	}
	for _, reason := range a.Result.GetReasons() {
		if reason.GetDecision() == a.Result.GetDecision() && !reason.GetShadow() {
			out.Message = reason.GetMessage()
			if out.PolicyId == "" {
				out.PolicyId, out.PolicyVersion = reason.GetPolicyId(), reason.GetVersion()
			}
			break
		}
	}
	for _, r := range a.Result.GetResults() {
		if r.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_EVALUATED {
			continue
		}
		out.MatchedRules = append(out.MatchedRules, r.GetMatchedRules()...)
		out.Actions = append(out.Actions, r.GetActions()...)
		if r.GetPolicyId() == out.GetPolicyId() {
			out.PolicyVersion = r.GetVersion()
		}
	}
	return out
}

func single(r *policyenginev1.PolicyResult, c *policyv1.EvaluationContext, a *decision.Answer) *policyv1.EvaluationResult {
	m := about(a)
	m["outcome"] = strings.TrimPrefix(r.GetOutcome().String(), "POLICY_OUTCOME_")
	if r.GetError() != "" {
		m["error"] = r.GetError()
	}
	if r.GetPolicyName() != "" {
		m["policy_name"] = r.GetPolicyName()
	}
	return &policyv1.EvaluationResult{
		PolicyId: r.GetPolicyId(), PolicyVersion: r.GetVersion(), Decision: evaluation(r.GetDecision()), MatchedRules: r.GetMatchedRules(),
		Actions: r.GetActions(), Message: r.GetMessage(), Metadata: m, EvaluatedAt: timestamppb.New(a.At),
		EvaluationDurationMs: (r.GetDurationUs() + 999) / 1000, Context: c,
	}
}

// askAuthorize is what a caller of EvaluatePolicy does who needs an approval.
const askAuthorize = "no approval was opened, because an evaluation names no exact action that one could be bound to and used for: " +
	"ask GovernanceService.Authorize (POST /v1/authorize) for the action; its answer has the approval to wait for"

func about(a *decision.Answer) map[string]string {
	m := map[string]string{"policy_set_version": strconv.FormatInt(a.Result.GetPolicySetVersion(), 10)}
	if a.DecisionID != "" {
		m["decision_id"] = a.DecisionID
	}
	if a.Result.GetDegraded() {
		m["degraded"] = "true"
	}
	if a.Result.GetDecision() == governancev1.Decision_DECISION_REQUIRE_APPROVAL {
		m["next_step"] = askAuthorize
	}
	return m
}

// evaluation is a decision in the published contract's order of numbers.
func evaluation(d governancev1.Decision) policyv1.EvaluationDecision {
	return policyv1.EvaluationDecision(policyv1.EvaluationDecision_value["EVALUATION_DECISION_"+decision.Name(d)])
}

// GetEvaluationHistory implements PolicyService: the decisions in which a
// policy had a part, newest first.
func (s *Policies) GetEvaluationHistory(ctx context.Context, req *policyv1.GetEvaluationHistoryRequest) (*policyv1.GetEvaluationHistoryResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	after, err := position(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize(), 50, 1000)
	list, err := s.store.Evaluations(ctx, tenant, postgres.DecisionFilter{
		PolicyID: req.GetPolicyId(), From: timeOf(req.GetStartTime()), To: timeOf(req.GetEndTime()),
	}, after, size+1)
	if err != nil {
		return nil, err
	}
	resp := &policyv1.GetEvaluationHistoryResponse{}
	for i, d := range list {
		if i == size {
			last := list[size-1]
			resp.NextPageToken = token(postgres.Position{At: last.DecidedAt, ID: last.ID})
			break
		}
		a := &decision.Answer{DecisionID: d.ID.String(), At: d.DecidedAt, Result: d.Result}
		for _, r := range d.Result.GetResults() {
			if r.GetPolicyId() != req.GetPolicyId() {
				continue
			}
			one := single(r, contextOf(d), a)
			if want := req.GetDecision(); want == 0 || want == one.GetDecision() {
				resp.Evaluations = append(resp.Evaluations, one)
			}
		}
	}
	resp.TotalCount = int32(len(resp.GetEvaluations()))
	return resp, nil
}

// contextOf is what was judged, without its texts.
func contextOf(d decision.Record) *policyv1.EvaluationContext {
	f := d.Facts
	return &policyv1.EvaluationContext{
		WorkflowId: f.GetWorkflowId(), EnvelopeId: f.GetEnvelopeId(), UserId: f.GetUserId(), UserRoles: f.GetUserRoles(), Phase: f.GetPhase(),
		ModelId: f.GetModelId(), ToolNames: f.GetToolNames(), Attributes: f.GetAttributes(), AgentId: f.GetAgentId(), AgentTeam: f.GetAgentTeam(),
		Timestamp: timestamppb.New(time.Unix(0, f.GetTimeUnixNano())),
	}
}

// ListApprovals implements PolicyService.
func (s *Policies) ListApprovals(ctx context.Context, req *policyv1.ListApprovalsRequest) (*policyv1.ListApprovalsResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	after, err := position(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize(), 20, 100)
	list, total, err := s.store.Approvals(ctx, tenant, approval.State(req.GetStatus()), after, size+1)
	if err != nil {
		return nil, err
	}
	resp := &policyv1.ListApprovalsResponse{TotalCount: int32(total)}
	for i, a := range list {
		if i == size {
			last := list[size-1]
			resp.NextPageToken = token(postgres.Position{At: last.CreatedAt, ID: last.ID})
			break
		}
		resp.Approvals = append(resp.Approvals, approvalOf(a))
	}
	return resp, nil
}

// UpdateApproval implements PolicyService. The reviewer is who calls, whatever
// the request says.
func (s *Policies) UpdateApproval(ctx context.Context, req *policyv1.UpdateApprovalRequest) (*policyv1.UpdateApprovalResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	id := uuid.MustParse(req.GetApprovalId()) // validated
	if err := s.store.Review(ctx, who, postgres.Vote{Approval: id, Verdict: approval.State(req.GetStatus()), Note: req.GetReviewNote()}); err != nil {
		return nil, err
	}
	a, err := s.store.Approval(ctx, who.Tenant, id)
	if err != nil {
		return nil, err
	}
	return &policyv1.UpdateApprovalResponse{Approval: approvalOf(a)}, nil
}

func approvalOf(a postgres.Approval) *policyv1.Approval {
	out := &policyv1.Approval{
		ApprovalId: a.ID.String(), EvaluationId: a.Decision.String(), PolicyId: a.PolicyID, PolicyName: a.PolicyName,
		Status: string(a.State), ReviewerId: a.ReviewerID, ReviewNote: a.ReviewNote, CreatedAt: timestamppb.New(a.CreatedAt),
		Metadata: make(map[string]string, len(a.Metadata)+4),
	}
	if a.State == approval.Consumed { // the contract knows approved approvals only
		out.Status = string(approval.Approved)
		out.Metadata["fulcrum.consumed"] = "true"
	}
	if a.Envelope != uuid.Nil {
		out.EnvelopeId = a.Envelope.String()
	}
	for k, v := range a.Metadata {
		out.Metadata[k] = v
	}
	out.Metadata["fulcrum.expires_at"] = a.ExpiresAt.UTC().Format(time.RFC3339)
	out.Metadata["fulcrum.votes"] = strconv.Itoa(int(a.Votes))
	out.Metadata["fulcrum.quorum"] = strconv.Itoa(int(a.Quorum))
	out.Metadata["fulcrum.roles"] = strings.Join(a.Roles, ",")
	return out
}
