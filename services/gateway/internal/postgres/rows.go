package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// never is how "no expiry" is written: a date that Postgres and Go both have,
// turned into null by the statement.
var never = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

func addDecision(p *gatewaydb.InsertDecisionsParams, tenant uuid.UUID, d *decision.Record) error {
	input, err := proto.Marshal(d.Facts)
	if err != nil {
		return fmt.Errorf("write facts of decision %s: %w", d.ID, err)
	}
	judged, err := proto.Marshal(d.Result)
	if err != nil {
		return fmt.Errorf("write result of decision %s: %w", d.ID, err)
	}
	response, err := proto.Marshal(d.Response)
	if err != nil {
		return fmt.Errorf("write answer of decision %s: %w", d.ID, err)
	}
	f, r := d.Facts, d.Response
	p.TenantIds = append(p.TenantIds, tenant)
	p.Ids = append(p.Ids, d.ID)
	p.Methods = append(p.Methods, string(d.Method))
	p.Decisions = append(p.Decisions, decision.Name(r.GetDecision()))
	p.EnvelopeIds = append(p.EnvelopeIds, d.Envelope)
	p.ParentIds = append(p.ParentIds, d.Parent)
	p.AgentIds = append(p.AgentIds, f.GetAgentId())
	p.Teams = append(p.Teams, f.GetAgentTeam())
	p.UserIds = append(p.UserIds, f.GetUserId())
	p.KeyIds = append(p.KeyIds, d.KeyID)
	p.WorkflowIds = append(p.WorkflowIds, f.GetWorkflowId())
	kind := ""
	if f.GetAction() != nil {
		kind = decision.KindName(f.GetAction().GetKind())
	}
	p.ActionKinds = append(p.ActionKinds, kind)
	p.ActionNames = append(p.ActionNames, f.GetAction().GetName())
	p.Models = append(p.Models, f.GetModelId())
	p.ReservationIds = append(p.ReservationIds, d.Reservation)
	p.Helds = append(p.Helds, r.GetHold() != nil)
	p.CostNanos = append(p.CostNanos, max(r.GetHold().GetAmounts().GetCostNano(), 0))
	p.ApprovalIds = append(p.ApprovalIds, d.Approval)
	p.PolicySetVersions = append(p.PolicySetVersions, r.GetPolicySetVersion())
	p.PolicyIds = append(p.PolicyIds, policyIDs(d))
	p.Degradeds = append(p.Degradeds, r.GetDegraded())
	p.EvaluatedUss = append(p.EvaluatedUss, r.GetEvaluatedUs())
	p.Inputs = append(p.Inputs, filled(input))
	p.Results = append(p.Results, filled(judged))
	p.Responses = append(p.Responses, filled(response))
	return nil
}

// policyIDs lists the policies that had a part in a decision.
func policyIDs(d *decision.Record) string {
	ids := make([]string, 0, len(d.Result.GetResults()))
	for _, r := range d.Result.GetResults() {
		if id := r.GetPolicyId(); id != "" && !strings.Contains(id, ",") {
			ids = append(ids, id)
		}
	}
	for _, s := range d.Result.GetShadows() {
		ids = append(ids, shadowPrefix+s.GetPolicyId())
	}
	return strings.Join(ids, ",")
}

func addEnvelope(p *gatewaydb.InsertEnvelopesParams, tenant uuid.UUID, e *envelope.Envelope) error {
	governance, err := proto.Marshal(e.Governance)
	if err != nil {
		return fmt.Errorf("write governance of envelope %s: %w", e.ID, err)
	}
	limits, err := proto.Marshal(&budgetv1.ReserveRequest{EnvelopeLimits: e.Limits})
	if err != nil {
		return fmt.Errorf("write limits of envelope %s: %w", e.ID, err)
	}
	metadata, err := text(e.Metadata)
	if err != nil {
		return fmt.Errorf("write metadata of envelope %s: %w", e.ID, err)
	}
	trace, err := text(e.Trace)
	if err != nil {
		return fmt.Errorf("write trace of envelope %s: %w", e.ID, err)
	}
	ancestors := make([]string, len(e.Ancestors))
	for i, id := range e.Ancestors {
		ancestors[i] = id.String()
	}
	expires := e.ExpiresAt
	if expires.IsZero() {
		expires = never
	}
	p.TenantIds = append(p.TenantIds, tenant)
	p.Ids = append(p.Ids, e.ID)
	p.ParentIds = append(p.ParentIds, e.Parent)
	p.RootIds = append(p.RootIds, e.Root)
	p.Ancestors = append(p.Ancestors, strings.Join(ancestors, ","))
	p.Statuses = append(p.Statuses, string(e.Status))
	p.StatusReasons = append(p.StatusReasons, e.Reason)
	p.AgentIds = append(p.AgentIds, e.AgentID)
	p.Teams = append(p.Teams, e.Team)
	p.UserIds = append(p.UserIds, e.UserID)
	p.KeyIds = append(p.KeyIds, e.KeyID)
	p.WorkflowIds = append(p.WorkflowIds, e.WorkflowID)
	p.ExecutionIds = append(p.ExecutionIds, e.ExecutionID)
	p.BudgetIds = append(p.BudgetIds, e.BudgetID)
	p.AdapterTypes = append(p.AdapterTypes, e.AdapterType)
	p.Governances = append(p.Governances, filled(governance))
	p.Limits = append(p.Limits, filled(limits))
	p.Metadatas = append(p.Metadatas, metadata)
	p.TraceContexts = append(p.TraceContexts, trace)
	p.ExpiresAts = append(p.ExpiresAts, expires)
	return nil
}

func addApproval(p *gatewaydb.InsertApprovalsParams, tenant uuid.UUID, r *approval.Request) error {
	metadata, err := text(r.Metadata)
	if err != nil {
		return fmt.Errorf("write metadata of approval %s: %w", r.ID, err)
	}
	roles, err := json.Marshal(append([]string{}, r.Roles...))
	if err != nil {
		return fmt.Errorf("write roles of approval %s: %w", r.ID, err)
	}
	p.TenantIds = append(p.TenantIds, tenant)
	p.Ids = append(p.Ids, r.ID)
	p.DecisionIds = append(p.DecisionIds, r.Decision)
	p.EnvelopeIds = append(p.EnvelopeIds, r.Envelope)
	p.Digests = append(p.Digests, r.Digest[:])
	p.PolicySetVersions = append(p.PolicySetVersions, r.PolicySetVersion)
	p.PolicyIds = append(p.PolicyIds, r.PolicyID)
	p.PolicyNames = append(p.PolicyNames, r.PolicyName)
	p.ActionKinds = append(p.ActionKinds, r.ActionKind)
	p.ActionNames = append(p.ActionNames, r.ActionName)
	p.Metadatas = append(p.Metadatas, metadata)
	p.ByKeys = append(p.ByKeys, r.KeyID)
	p.ByAgents = append(p.ByAgents, r.AgentID)
	p.ByUsers = append(p.ByUsers, r.UserID)
	p.Quorums = append(p.Quorums, r.Quorum)
	p.Roles = append(p.Roles, string(roles))
	p.OpensEnvelopes = append(p.OpensEnvelopes, r.OpensEnvelope)
	p.TtlSeconds = append(p.TtlSeconds, int32(r.TTL/time.Second))
	return nil
}

// filled keeps an empty message from becoming a null.
func filled(raw []byte) []byte {
	if raw == nil {
		return []byte{}
	}
	return raw
}
