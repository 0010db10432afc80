// Package api speaks gRPC for the audit log: it translates and decides nothing.
package api

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

const (
	scope    = "audit:read"
	pageSize = 100
)

// Server is the gRPC face of a Log. The tenant is always the caller's.
type Server struct {
	auditv1.UnimplementedAuditServiceServer
	log *trail.Log
}

// New returns a Server over l.
func New(l *trail.Log) *Server { return &Server{log: l} }

// GetLogCheckpoint implements auditv1.AuditServiceServer.
func (s *Server) GetLogCheckpoint(ctx context.Context, _ *auditv1.GetLogCheckpointRequest) (*auditv1.GetLogCheckpointResponse, error) {
	p, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	c, err := s.log.Latest(ctx, p.Tenant)
	if err != nil {
		return nil, err
	}
	return &auditv1.GetLogCheckpointResponse{
		Checkpoint: c.Note, TreeSize: c.Size, RootHash: c.Root[:], SignedAt: timestamppb.New(c.SignedAt)}, nil
}

// GetInclusionProof implements auditv1.AuditServiceServer.
func (s *Server) GetInclusionProof(ctx context.Context, req *auditv1.GetInclusionProofRequest) (*auditv1.GetInclusionProofResponse, error) {
	p, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	event, err := uuid.Parse(req.GetEventId())
	if err != nil {
		return nil, fault.Field("event_id", "must be a UUID")
	}
	proof, err := s.log.Include(ctx, p.Tenant, event)
	if err != nil {
		return nil, err
	}
	return &auditv1.GetInclusionProofResponse{
		Entry: entry(proof.Entry), Hashes: proof.Hashes, Checkpoint: proof.Checkpoint.Note, TreeSize: proof.Checkpoint.Size}, nil
}

// GetConsistencyProof implements auditv1.AuditServiceServer.
func (s *Server) GetConsistencyProof(ctx context.Context, req *auditv1.GetConsistencyProofRequest) (*auditv1.GetConsistencyProofResponse, error) {
	p, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	proof, err := s.log.Extend(ctx, p.Tenant, req.GetOldSize(), req.GetNewSize())
	if err != nil {
		return nil, err
	}
	now := req.GetNewSize()
	if now == 0 {
		now = proof.Checkpoint.Size
	}
	return &auditv1.GetConsistencyProofResponse{
		Hashes: proof.Hashes, OldSize: proof.Old, NewSize: now, Checkpoint: proof.Checkpoint.Note}, nil
}

// ListEntries implements auditv1.AuditServiceServer.
func (s *Server) ListEntries(ctx context.Context, req *auditv1.ListEntriesRequest) (*auditv1.ListEntriesResponse, error) {
	p, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	limit := int(req.GetPageSize())
	if limit == 0 {
		limit = pageSize
	}
	entries, err := s.log.Entries(ctx, p.Tenant, req.GetStartIndex(), limit)
	if err != nil {
		return nil, err
	}
	resp := &auditv1.ListEntriesResponse{NextIndex: -1}
	for _, e := range entries {
		resp.Entries = append(resp.Entries, entry(e))
	}
	if len(entries) == limit {
		resp.NextIndex = entries[limit-1].Index + 1
	}
	return resp, nil
}

// GetVerificationKey implements auditv1.AuditServiceServer.
func (s *Server) GetVerificationKey(ctx context.Context, _ *auditv1.GetVerificationKeyRequest) (*auditv1.GetVerificationKeyResponse, error) {
	p, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	return &auditv1.GetVerificationKeyResponse{VerifierKey: s.log.VerifierKey(), Origin: s.log.Origin(p.Tenant)}, nil
}

func entry(e trail.Entry) *auditv1.Entry {
	return &auditv1.Entry{
		Index: e.Index, EventId: e.Event.String(), Leaf: e.Bytes, Payload: e.Payload, Salt: e.Salt,
		OccurredAt: timestamppb.New(e.At), Actor: e.Actor, Action: e.Action, Resource: e.Resource,
		Decision: e.Decision, PolicyVersion: e.PolicyVersion,
	}
}
