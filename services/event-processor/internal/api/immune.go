package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/immune"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/postgres"
)

// Immune is the published ImmuneSystemService.
type Immune struct {
	brainv1.UnimplementedImmuneSystemServiceServer
	store    *postgres.Immune
	policies policyv1.PolicyServiceClient
}

// NewImmune returns Immune over its store; policies is where an approved draft
// becomes a policy, by the caller's own rights.
func NewImmune(s *postgres.Immune, policies policyv1.PolicyServiceClient) *Immune {
	return &Immune{store: s, policies: policies}
}

// What may be reported of the past, and of clocks that are ahead.
const (
	oldest  = 366 * 24 * time.Hour
	farther = 5 * time.Minute
)

// ReportIncident implements ImmuneSystemService.
func (s *Immune) ReportIncident(ctx context.Context, req *brainv1.ReportIncidentRequest) (*brainv1.ReportIncidentResponse, error) {
	tenant, err := caller(ctx, "event:write", req.GetIncident().GetTenantId())
	if err != nil {
		return nil, err
	}
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	in := req.GetIncident()
	happened, err := at(in.GetTimestamp(), "incident.timestamp")
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if !happened.IsZero() && (happened.Before(now.Add(-oldest)) || happened.After(now.Add(farther))) {
		return nil, fault.Field("incident.timestamp", "must be within the last year")
	}
	size := 0
	for k, v := range in.GetDetails() {
		size += len(k) + len(v)
	}
	if size > 256<<10 {
		return nil, fault.Field("incident.details", "has %d bytes, more than %d", size, 256<<10)
	}
	if in.GetCategory() == brainv1.IncidentCategory_INCIDENT_CATEGORY_UNSPECIFIED && in.GetDescription() == "" {
		return nil, fault.Field("incident", "must have a category or a description")
	}
	found := immune.Reported(tenant, who.Actor(), in, now)
	hash, err := once(ctx, tenant, found, req)
	if err != nil {
		return nil, err
	}
	id, err := s.store.Report(ctx, tenant, found, hash)
	if err != nil {
		return nil, err
	}
	return &brainv1.ReportIncidentResponse{IncidentId: id.String()}, nil
}

// once names a report after the caller's idempotency key, and returns the hash
// of what it asks for: nil if the caller gave no key.
func once(ctx context.Context, tenant uuid.UUID, in *immune.Incident, req proto.Message) ([]byte, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	keys := md.Get("idempotency-key")
	if len(keys) == 0 {
		return nil, nil
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > 128 {
		return nil, fault.Field("idempotency-key", "must be one key of 1 to 128 characters")
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("hash report: %w", err)
	}
	in.ID = uuid.NewSHA1(tenant, []byte("incident\x00"+keys[0]))
	sum := sha256.Sum256(body)
	return sum[:], nil
}

// ListIncidents implements ImmuneSystemService.
func (s *Immune) ListIncidents(ctx context.Context, req *brainv1.ListIncidentsRequest) (*brainv1.ListIncidentsResponse, error) {
	tenant, from, size, err := s.page(ctx, readEvents, "incidents", req)
	if err != nil {
		return nil, err
	}
	all, places, err := s.store.Incidents(ctx, tenant, from, size+1)
	if err != nil {
		return nil, err
	}
	all, next := cut("incidents", tenant, all, places, size)
	return &brainv1.ListIncidentsResponse{Incidents: all, NextPageToken: next}, nil
}

// GetAttackPatterns implements ImmuneSystemService.
func (s *Immune) GetAttackPatterns(ctx context.Context, req *brainv1.GetAttackPatternsRequest) (*brainv1.GetAttackPatternsResponse, error) {
	tenant, from, size, err := s.page(ctx, readEvents, "patterns", req)
	if err != nil {
		return nil, err
	}
	all, places, err := s.store.Patterns(ctx, tenant, from, size+1)
	if err != nil {
		return nil, err
	}
	all, next := cut("patterns", tenant, all, places, size)
	return &brainv1.GetAttackPatternsResponse{Patterns: all, NextPageToken: next}, nil
}

// GetPendingPolicies implements ImmuneSystemService.
func (s *Immune) GetPendingPolicies(ctx context.Context, req *brainv1.GetPendingPoliciesRequest) (*brainv1.GetPendingPoliciesResponse, error) {
	tenant, from, size, err := s.page(ctx, "policy:read", "pending", req)
	if err != nil {
		return nil, err
	}
	all, places, err := s.store.Pending(ctx, tenant, from, size+1)
	if err != nil {
		return nil, err
	}
	all, next := cut("pending", tenant, all, places, size)
	return &brainv1.GetPendingPoliciesResponse{Policies: all, NextPageToken: next}, nil
}

// ReviewGeneratedPolicy implements ImmuneSystemService. The answer is written
// down first, so that two people's answers never both happen; the control plane
// then carries it out by the caller's own rights, and a call that is lost in
// between goes on where it stopped when it is repeated.
func (s *Immune) ReviewGeneratedPolicy(ctx context.Context, req *brainv1.ReviewGeneratedPolicyRequest) (*brainv1.ReviewGeneratedPolicyResponse, error) {
	who, err := identity.Allowed(ctx, "policy:approve")
	if err != nil {
		return nil, err
	}
	id, err := uuid.Parse(req.GetPolicyId())
	if err != nil {
		return nil, fault.Field("policy_id", "must be a UUID")
	}
	if req.GetDecision() != brainv1.ReviewDecision_REVIEW_DECISION_REJECT {
		if err := who.Can("policy:write"); err != nil { // the control plane would say it too late
			return nil, err
		}
	}
	g, carryOut, err := s.store.Answer(ctx, who, id, immune.Answer{Decision: req.GetDecision(), Note: req.GetReviewNotes()})
	if err != nil {
		return nil, err
	}
	resp := &brainv1.ReviewGeneratedPolicyResponse{Policy: g.Policy, Activated: g.State.Done() == immune.Approved}
	switch {
	case carryOut:
		resp.Policy, err = s.carryOut(ctx, who, g, req.GetReviewNotes())
	case g.PolicyID != uuid.Nil: // carried out before
		var got *policyv1.GetPolicyResponse
		got, err = s.policies.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: g.PolicyID.String()})
		resp.Policy = got.GetPolicy()
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// carryOut makes a policy of a draft, on the way that every policy goes.
func (s *Immune) carryOut(ctx context.Context, who identity.Principal, g immune.Generated, note string) (*policyv1.Policy, error) {
	p := proto.CloneOf(g.Policy)
	p.PolicyId, p.TenantId = "", ""
	if g.State == immune.Approving {
		p.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
	}
	keyed := metadata.AppendToOutgoingContext(ctx, "idempotency-key", "generated-policy-"+g.ID.String())
	made, err := s.policies.CreatePolicy(keyed, &policyv1.CreatePolicyRequest{Policy: p})
	if err != nil {
		if fault.Is(err, fault.Denied) || fault.Is(err, fault.Invalid) { // it never will
			if undo := s.store.Withdraw(ctx, who, g.ID); undo != nil {
				return nil, undo
			}
		}
		return nil, err
	}
	policy, err := uuid.Parse(made.GetPolicy().GetPolicyId())
	if err != nil {
		return nil, fmt.Errorf("read id of the policy that was made: %w", err)
	}
	return made.GetPolicy(), s.store.Done(ctx, who, g.ID, policy, note)
}

// ListDetectors implements ImmuneSystemService.
func (s *Immune) ListDetectors(ctx context.Context, req *brainv1.ListDetectorsRequest) (*brainv1.ListDetectorsResponse, error) {
	tenant, err := caller(ctx, "policy:read", req.GetTenantId())
	if err != nil {
		return nil, err
	}
	all, err := s.store.Detectors(ctx, tenant)
	if err != nil {
		return nil, err
	}
	resp := &brainv1.ListDetectorsResponse{}
	for _, d := range all {
		resp.Detectors = append(resp.Detectors, detector(d))
	}
	return resp, nil
}

// UpdateDetector implements ImmuneSystemService. Who approves policies also says
// what is worth one: an agent that could raise its own thresholds would be blind.
func (s *Immune) UpdateDetector(ctx context.Context, req *brainv1.UpdateDetectorRequest) (*brainv1.UpdateDetectorResponse, error) {
	who, err := identity.Allowed(ctx, "policy:approve")
	if err != nil {
		return nil, err
	}
	if who.AgentID != "" {
		return nil, fault.New(fault.Denied, "an agent does not set detectors").WithReason("REVIEWER_IS_AGENT")
	}
	d, err := s.store.SetDetector(ctx, who.Tenant, who.Actor(), immune.Name(req.GetName()), func(d *immune.Detector) {
		if req.Enabled != nil {
			d.Enabled = req.GetEnabled()
		}
		if req.Threshold != nil {
			d.Threshold = req.GetThreshold()
		}
		if req.WindowSeconds != nil {
			d.Window = time.Duration(req.GetWindowSeconds()) * time.Second
		}
	})
	if err != nil {
		return nil, err
	}
	return &brainv1.UpdateDetectorResponse{Detector: detector(d)}, nil
}

func detector(d immune.Detector) *brainv1.Detector {
	return &brainv1.Detector{
		Name: string(d.Name), Description: d.About, Enabled: d.Enabled, Threshold: d.Threshold, WindowSeconds: int32(d.Window / time.Second),
		UpdatedAt: timestamp(d.UpdatedAt), UpdatedBy: d.UpdatedBy,
	}
}

// paged is what the lists' requests have in common.
type paged interface {
	GetTenantId() string
	GetPageSize() int32
	GetPageToken() string
}

func (s *Immune) page(ctx context.Context, scope, kind string, req paged) (tenant uuid.UUID, from postgres.Place, size int, err error) {
	if tenant, err = caller(ctx, scope, req.GetTenantId()); err != nil {
		return tenant, from, 0, err
	}
	if size, err = pageSize(req.GetPageSize()); err != nil {
		return tenant, from, 0, err
	}
	from, err = placed(kind, tenant, req.GetPageToken())
	return tenant, from, size, err
}

// placed is where a page token says that a list goes on.
func placed(kind string, tenant uuid.UUID, token string) (postgres.Place, error) {
	// Before everything there will be; PostgreSQL's times end later than ours.
	from := postgres.Place{At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), ID: uuid.Max}
	if token == "" {
		return from, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 32 || string(raw[:8]) != string(listSum(kind, tenant)) {
		return from, fault.Field("page_token", "is not a token of this list")
	}
	from.At, from.ID = time.UnixMicro(int64(binary.BigEndian.Uint64(raw[8:]))), uuid.UUID(raw[16:32])
	return from, nil
}

// cut makes a page of one row more than it has, and the token of the next.
func cut[T any](kind string, tenant uuid.UUID, all []T, places []postgres.Place, size int) ([]T, string) {
	if len(all) <= size {
		return all, ""
	}
	last := places[size-1]
	raw := binary.BigEndian.AppendUint64(listSum(kind, tenant), uint64(last.At.UnixMicro()))
	return all[:size], base64.RawURLEncoding.EncodeToString(append(raw, last.ID[:]...))
}

func listSum(kind string, tenant uuid.UUID) []byte {
	sum := sha256.Sum256([]byte("immune " + kind + " " + tenant.String()))
	return sum[:8]
}
