package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Place is how far a reader has come in a list, newest first: what follows is
// older.
type Place struct {
	At time.Time
	ID uuid.UUID
}

// Incidents returns up to limit incidents from a place on, and where each is.
func (s *Immune) Incidents(ctx context.Context, tenant uuid.UUID, from Place, limit int) (out []*brainv1.Incident, at []Place, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := eventsdb.New(tx).Incidents(ctx, eventsdb.IncidentsParams{TenantID: tenant, BeforeAt: from.At, BeforeID: from.ID, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("read incidents: %w", err)
		}
		for _, r := range rows {
			in := &brainv1.Incident{
				IncidentId: r.ID.String(), TenantId: tenant.String(), Timestamp: timestamppb.New(r.OccurredAt), Severity: brainv1.IncidentSeverity(r.Severity),
				Category: brainv1.IncidentCategory(r.Category), Description: r.Description,
			}
			if err := json.Unmarshal(r.Details, &in.Details); err != nil {
				return fmt.Errorf("read details of incident %s: %w", r.ID, err)
			}
			out, at = append(out, in), append(at, Place{r.CreatedAt, r.ID})
		}
		return nil
	})
	return out, at, err
}

// Patterns returns up to limit patterns from a place on, and where each is.
func (s *Immune) Patterns(ctx context.Context, tenant uuid.UUID, from Place, limit int) (out []*brainv1.AttackPattern, at []Place, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := eventsdb.New(tx).AttackPatterns(ctx, eventsdb.AttackPatternsParams{TenantID: tenant, BeforeAt: from.At, BeforeID: from.ID, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("read patterns: %w", err)
		}
		for _, r := range rows {
			out = append(out, &brainv1.AttackPattern{
				PatternId: r.ID.String(), Signature: r.Signature, Frequency: r.Frequency, Indicators: r.Indicators, AffectedTenants: []string{tenant.String()},
				FirstSeen: timestamppb.New(r.FirstSeen), LastSeen: timestamppb.New(r.LastSeen),
			})
			at = append(at, Place{r.LastSeen, r.ID})
		}
		return nil
	})
	return out, at, err
}

// Pending returns up to limit drafts that nobody has answered, from a place on,
// and where each is.
func (s *Immune) Pending(ctx context.Context, tenant uuid.UUID, from Place, limit int) (out []*brainv1.GeneratedPolicy, at []Place, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := eventsdb.New(tx).PendingPolicies(ctx, eventsdb.PendingPoliciesParams{TenantID: tenant, BeforeAt: from.At, BeforeID: from.ID, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("read pending policies: %w", err)
		}
		for _, r := range rows {
			p := new(policyv1.Policy)
			if err := proto.Unmarshal(r.Policy, p); err != nil {
				return fmt.Errorf("read generated policy %s: %w", r.ID, err)
			}
			out = append(out, &brainv1.GeneratedPolicy{
				Policy: p, SourcePattern: r.PatternID.String(), Reasoning: r.Reasoning, ApprovalRequired: true,
				Status: brainv1.GeneratedPolicyStatus_GENERATED_POLICY_STATUS_PENDING, GeneratedAt: timestamppb.New(r.GeneratedAt),
			})
			at = append(at, Place{r.GeneratedAt, r.ID})
		}
		return nil
	})
	return out, at, err
}
