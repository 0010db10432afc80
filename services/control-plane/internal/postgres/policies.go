package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
)

// CreatePolicy implements policy.Store.
func (s *Store) CreatePolicy(ctx context.Context, by identity.Principal, p *policyv1.Policy, once change.Once, note policy.Note) (*policyv1.Policy, error) {
	stored := proto.CloneOf(p)
	_, err := s.createAt(ctx, by, by.Tenant, once, []kind{policies}, stored, func(ctx context.Context, q *controldb.Queries, versions map[kind]int64) (told, error) {
		return insertPolicy(ctx, q, by, p, stored, versions, note)
	})
	return stored, err
}

// insertPolicy stores version 1 of p under a new id, and completes stored.
func insertPolicy(ctx context.Context, q *controldb.Queries, by identity.Principal, p, stored *policyv1.Policy, versions map[kind]int64, note policy.Note) (told, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return told{}, fmt.Errorf("new policy id: %w", err)
	}
	row, err := q.InsertPolicy(ctx, controldb.InsertPolicyParams{
		TenantID: by.Tenant, ID: id, Status: policy.Word(p.GetStatus()), Priority: p.GetPriority(),
		RuleTypes: policy.RuleTypes(p), CreatedBy: by.Actor(),
	})
	if err != nil {
		return told{}, fmt.Errorf("insert policy: %w", err)
	}
	if err := insertVersion(ctx, q, by, id, 1, p); err != nil {
		return told{}, err
	}
	stored.PolicyId, stored.TenantId, stored.CreatedBy = id.String(), by.Tenant.String(), by.Actor()
	stored.Version, stored.Etag = 1, change.Etag(row.Revision)
	stored.CreatedAt, stored.UpdatedAt = timestamppb.New(row.CreatedAt), timestamppb.New(row.UpdatedAt)
	if err := activated(ctx, q, by, nil, stored, versions, note); err != nil {
		return told{}, err
	}
	return fact(change.Fact{Type: "policy_created", Action: "policy.create", Resource: "policy:" + id.String(), After: stored}), nil
}

// Policy implements policy.Store.
func (s *Store) Policy(ctx context.Context, tenant, id uuid.UUID) (p *policyv1.Policy, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		row, err := q.Policy(ctx, controldb.PolicyParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "policy", id.String())
		}
		if p, err = policyOf(tenant, row); err != nil {
			return err
		}
		return addTests(ctx, q, tenant, p)
	})
	return p, err
}

// ReplacePolicy implements policy.Store. The revision is compared by the UPDATE
// itself, so of two writers that read the same one, one finds nothing to update.
func (s *Store) ReplacePolicy(ctx context.Context, by identity.Principal, old, next *policyv1.Policy, note policy.Note) (*policyv1.Policy, int64, error) {
	id, err := uuid.Parse(old.GetPolicyId())
	if err != nil {
		return nil, 0, fmt.Errorf("policy id of a stored policy: %w", err)
	}
	stored := proto.CloneOf(next)
	versions, err := s.changeAt(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries, versions map[kind]int64) (told, error) {
		fresh := !note.Stored && !proto.Equal(policy.Content(old), policy.Content(next))
		switch {
		case fresh:
			// Versions that were stored beside the pointer count.
			latest, err := q.LatestPolicyVersion(ctx, controldb.LatestPolicyVersionParams{TenantID: by.Tenant, PolicyID: id})
			if err != nil {
				return told{}, fmt.Errorf("look up the newest version: %w", err)
			}
			stored.Version = latest + 1
		case !note.Stored:
			stored.Version = old.GetVersion()
		}
		row, err := q.UpdatePolicy(ctx, controldb.UpdatePolicyParams{
			TenantID: by.Tenant, ID: id, Revision: change.Revision(old.GetEtag()), Version: stored.GetVersion(),
			Status: policy.Word(next.GetStatus()), Priority: next.GetPriority(), RuleTypes: policy.RuleTypes(next),
		})
		if err != nil {
			return told{}, moved(err, "policy")
		}
		if fresh {
			if err := insertVersion(ctx, q, by, id, stored.GetVersion(), next); err != nil {
				return told{}, err
			}
		}
		stored.Etag, stored.UpdatedAt = change.Etag(row.Revision), timestamppb.New(row.UpdatedAt)
		if err := activated(ctx, q, by, old, stored, versions, note); err != nil {
			return told{}, err
		}
		if policy.InForce(stored) {
			if err := q.EndPolicyShadow(ctx, controldb.EndPolicyShadowParams{TenantID: by.Tenant, PolicyID: id, Version: stored.GetVersion()}); err != nil {
				return told{}, fmt.Errorf("end shadow: %w", err)
			}
		}
		action := policyAction(old, next)
		if note.Action == policy.RolledBack {
			action = "policy.rollback"
		}
		return fact(change.Fact{
			Type: "policy_updated", Action: action, Resource: "policy:" + id.String(), Before: old, After: stored,
		}), nil
	})
	if err != nil {
		return nil, 0, err
	}
	return stored, versions[policies], nil
}

// DeletePolicy implements policy.Store.
func (s *Store) DeletePolicy(ctx context.Context, by identity.Principal, old *policyv1.Policy) error {
	id, err := uuid.Parse(old.GetPolicyId())
	if err != nil {
		return fmt.Errorf("policy id of a stored policy: %w", err)
	}
	_, err = s.changeAt(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries, versions map[kind]int64) (told, error) {
		n, err := q.DeletePolicy(ctx, controldb.DeletePolicyParams{TenantID: by.Tenant, ID: id, Revision: change.Revision(old.GetEtag())})
		if err != nil {
			return told{}, fmt.Errorf("delete policy: %w", err)
		}
		if n == 0 {
			return told{}, change.Stale("policy")
		}
		gone := proto.CloneOf(old)
		gone.Status, gone.Etag = policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED, change.Etag(change.Revision(old.GetEtag())+1)
		if err := activated(ctx, q, by, old, gone, versions, policy.Note{Action: policy.Deleted}); err != nil {
			return told{}, err
		}
		return fact(change.Fact{Type: "policy_deleted", Action: "policy.delete", Resource: "policy:" + id.String(), Before: old}), nil
	})
	return err
}

// Policies implements policy.Store.
func (s *Store) Policies(ctx context.Context, tenant uuid.UUID, f policy.Filter, after *policy.Position, limit int) (page []*policyv1.Policy, total int32, err error) {
	var status *string
	if f.Status != policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED {
		status = new(policy.Word(f.Status))
	}
	var ruleType *int32
	if f.RuleType != policyv1.RuleType_RULE_TYPE_UNSPECIFIED {
		ruleType = new(int32(f.RuleType))
	}
	ask := controldb.PoliciesParams{TenantID: tenant, Status: status, RuleType: ruleType, Lim: int32(limit)}
	if after != nil {
		ask.Resumed, ask.AfterPriority, ask.AfterID = true, after.Priority, after.ID
	}
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		rows, err := q.Policies(ctx, ask)
		if err != nil {
			return fmt.Errorf("list policies: %w", err)
		}
		for _, row := range rows {
			p, err := policyOf(tenant, controldb.PolicyRow(row))
			if err != nil {
				return err
			}
			page = append(page, p)
		}
		if err := addTests(ctx, q, tenant, page...); err != nil {
			return err
		}
		total, err = q.CountPolicies(ctx, controldb.CountPoliciesParams{TenantID: tenant, Status: status, RuleType: ruleType})
		return err
	})
	return page, total, err
}

func insertVersion(ctx context.Context, q *controldb.Queries, by identity.Principal, id uuid.UUID, version int64, p *policyv1.Policy) error {
	bare := policy.Content(p)
	bare.Tests = nil
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		return fmt.Errorf("marshal policy: %w", err)
	}
	sum := sha256.Sum256(content)
	if err := q.InsertPolicyVersion(ctx, controldb.InsertPolicyVersionParams{
		TenantID: by.Tenant, PolicyID: id, Version: version, Name: p.GetName(),
		Content: content, Sha256: bytes.Clone(sum[:]), CreatedBy: by.Actor(),
	}); err != nil {
		return fmt.Errorf("insert version %d of policy: %w", version, err)
	}
	return insertTests(ctx, q, by.Tenant, id, version, p.GetTests())
}

func policyOf(tenant uuid.UUID, row controldb.PolicyRow) (*policyv1.Policy, error) {
	p := &policyv1.Policy{}
	if err := proto.Unmarshal(row.Content, p); err != nil {
		return nil, fmt.Errorf("read policy %s: %w", row.ID, err)
	}
	p.PolicyId, p.TenantId, p.CreatedBy = row.ID.String(), tenant.String(), row.CreatedBy
	p.Version, p.Etag, p.Status = row.Version, change.Etag(row.Revision), policy.Status(row.Status)
	p.CreatedAt, p.UpdatedAt = timestamppb.New(row.CreatedAt), timestamppb.New(row.UpdatedAt)
	return p, nil
}

func policyAction(old, next *policyv1.Policy) string {
	if old.GetStatus() == next.GetStatus() {
		return "policy.update"
	}
	switch next.GetStatus() {
	case policyv1.PolicyStatus_POLICY_STATUS_ACTIVE:
		return "policy.activate"
	case policyv1.PolicyStatus_POLICY_STATUS_INACTIVE:
		return "policy.deactivate"
	}
	return "policy.archive"
}

// moved says why an update by revision found no row.
func moved(err error, resource string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return change.Stale(resource)
	}
	return fmt.Errorf("update %s: %w", resource, err)
}
