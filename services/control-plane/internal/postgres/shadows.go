package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// maxShadows of one tenant: each is judged within the request that it samples.
const maxShadows = 10

// PutShadow implements policy.Store. The limit is counted under the lock of the
// bundle, which every change of the tenant's shadows takes.
func (s *Store) PutShadow(ctx context.Context, by identity.Principal, p *policyv1.Policy, share int32) (*lifecyclev1.PolicyShadow, int64, error) {
	id, err := uuid.Parse(p.GetPolicyId())
	if err != nil {
		return nil, 0, fmt.Errorf("policy id of a stored policy: %w", err)
	}
	shadow := &lifecyclev1.PolicyShadow{
		PolicyId: p.GetPolicyId(), PolicyName: p.GetName(), Version: p.GetVersion(), Percent: float64(share) / 100, StartedBy: by.Actor(),
	}
	versions, err := s.change(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		at, err := q.PutPolicyShadow(ctx, controldb.PutPolicyShadowParams{
			TenantID: by.Tenant, PolicyID: id, Version: p.GetVersion(), SharePerMyriad: share, StartedBy: by.Actor(),
		})
		if err != nil {
			return told{}, fmt.Errorf("put shadow: %w", err)
		}
		rows, err := q.PolicyShadows(ctx, by.Tenant)
		if err != nil {
			return told{}, fmt.Errorf("count shadows: %w", err)
		}
		if len(rows) > maxShadows {
			return told{}, fault.New(fault.Exhausted, "a tenant has at most %d policies in shadow", maxShadows).WithReason("TOO_MANY_SHADOWS")
		}
		shadow.StartedAt = timestamppb.New(at)
		return fact(change.Fact{Type: "policy_shadow_started", Action: "policy.shadow", Resource: "policy:" + id.String(), After: shadow}), nil
	})
	return shadow, versions[policies], err
}

// DropShadow implements policy.Store.
func (s *Store) DropShadow(ctx context.Context, by identity.Principal, id uuid.UUID) (bool, error) {
	versions, err := s.change(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		n, err := q.DropPolicyShadow(ctx, controldb.DropPolicyShadowParams{TenantID: by.Tenant, PolicyID: id})
		if err != nil {
			return told{}, fmt.Errorf("drop shadow: %w", err)
		}
		if n == 0 {
			return told{}, errUnchanged
		}
		return fact(change.Fact{Type: "policy_shadow_stopped", Action: "policy.unshadow", Resource: "policy:" + id.String()}), nil
	})
	return versions != nil, err
}

// Shadows implements policy.Store.
func (s *Store) Shadows(ctx context.Context, tenant uuid.UUID) (out []*lifecyclev1.PolicyShadow, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := controldb.New(tx).PolicyShadows(ctx, tenant)
		if err != nil {
			return fmt.Errorf("list shadows: %w", err)
		}
		for _, r := range rows {
			p := &policyv1.Policy{}
			if err := proto.Unmarshal(r.Content, p); err != nil {
				return fmt.Errorf("read policy %s: %w", r.PolicyID, err)
			}
			out = append(out, &lifecyclev1.PolicyShadow{
				PolicyId: r.PolicyID.String(), PolicyName: p.GetName(), Version: r.Version,
				Percent: math.Round(float64(r.SharePerMyriad)) / 100, StartedBy: r.StartedBy, StartedAt: timestamppb.New(r.StartedAt),
			})
		}
		return nil
	})
	return out, err
}

// liveShadows are those that a bundle publishes.
func liveShadows(ctx context.Context, q *controldb.Queries, tenant uuid.UUID) (out []*configv1.ShadowPolicy, err error) {
	rows, err := q.PolicyShadows(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read shadows: %w", err)
	}
	for _, r := range rows {
		p := &policyv1.Policy{}
		if err := proto.Unmarshal(r.Content, p); err != nil {
			return nil, fmt.Errorf("read policy %s: %w", r.PolicyID, err)
		}
		p.PolicyId, p.TenantId, p.Version = r.PolicyID.String(), tenant.String(), r.Version
		out = append(out, &configv1.ShadowPolicy{Policy: p, SharePerMyriad: r.SharePerMyriad})
	}
	return out, nil
}
