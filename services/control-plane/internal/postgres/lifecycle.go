package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
)

func insertTests(ctx context.Context, q *controldb.Queries, tenant, id uuid.UUID, version int64, tests []*policyv1.PolicyTest) error {
	if len(tests) == 0 {
		return nil
	}
	rows := controldb.InsertPolicyTestsParams{TenantID: tenant, PolicyID: id, Version: version}
	for i, t := range tests {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(t)
		if err != nil {
			return fmt.Errorf("marshal test %q: %w", t.GetName(), err)
		}
		rows.Ordinals, rows.Names, rows.Contents = append(rows.Ordinals, int32(i)), append(rows.Names, t.GetName()), append(rows.Contents, raw)
	}
	if err := q.InsertPolicyTests(ctx, rows); err != nil {
		return fmt.Errorf("insert tests of version %d: %w", version, err)
	}
	return nil
}

// addTests fills in the tests of policies, in one query.
func addTests(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, all ...*policyv1.Policy) error {
	if len(all) == 0 {
		return nil
	}
	ask := controldb.PolicyTestsParams{TenantID: tenant}
	for _, p := range all {
		id, err := uuid.Parse(p.GetPolicyId())
		if err != nil {
			return fmt.Errorf("policy id of a stored policy: %w", err)
		}
		ask.PolicyIds, ask.Versions = append(ask.PolicyIds, id), append(ask.Versions, p.GetVersion())
	}
	rows, err := q.PolicyTests(ctx, ask)
	if err != nil {
		return fmt.Errorf("read tests: %w", err)
	}
	tests := map[uuid.UUID][]*policyv1.PolicyTest{}
	for _, row := range rows {
		t := &policyv1.PolicyTest{}
		if err := proto.Unmarshal(row.Content, t); err != nil {
			return fmt.Errorf("read a test of policy %s: %w", row.PolicyID, err)
		}
		tests[row.PolicyID] = append(tests[row.PolicyID], t)
	}
	for i, p := range all {
		p.Tests = tests[ask.PolicyIds[i]]
	}
	return nil
}

// activated writes down what a change did to what is in force, if it did.
func activated(ctx context.Context, q *controldb.Queries, by identity.Principal, old, now *policyv1.Policy, versions map[kind]int64, note policy.Note) error {
	was, is := policy.InForce(old), policy.InForce(now)
	a := controldb.InsertPolicyActivationParams{
		TenantID: by.Tenant, Revision: change.Revision(now.GetEtag()), Version: now.GetVersion(), Actor: by.Actor(),
		Reason: note.Reason, PolicySetVersion: versions[policies], TestsPassed: note.TestsPassed,
	}
	if was {
		a.FromVersion = old.GetVersion()
	}
	action := note.Action
	switch {
	case !was && !is, was && is && old.GetVersion() == now.GetVersion():
		return nil
	case action != "":
	case !was:
		action = policy.Activated
	case is:
		action = policy.Edited
	default:
		action = policy.Deactivated
	}
	a.Action = string(action)
	var err error
	if a.PolicyID, err = uuid.Parse(now.GetPolicyId()); err != nil {
		return fmt.Errorf("policy id of a stored policy: %w", err)
	}
	if err := q.InsertPolicyActivation(ctx, a); err != nil {
		return fmt.Errorf("insert activation: %w", err)
	}
	return nil
}

// AddVersion implements policy.Store. The new version takes the policy's next
// revision, so that of two writers one finds nothing to update.
func (s *Store) AddVersion(ctx context.Context, by identity.Principal, old, next *policyv1.Policy) (*policyv1.Policy, error) {
	stored := proto.CloneOf(next)
	_, err := s.change(ctx, by, by.Tenant, nil, func(ctx context.Context, q *controldb.Queries) (told, error) {
		return insertNext(ctx, q, by, old, next, stored)
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// insertNext stores next as a version of old beside the one in force, and
// completes stored.
func insertNext(ctx context.Context, q *controldb.Queries, by identity.Principal, old, next, stored *policyv1.Policy) (told, error) {
	id, err := uuid.Parse(old.GetPolicyId())
	if err != nil {
		return told{}, fmt.Errorf("policy id of a stored policy: %w", err)
	}
	row, err := q.UpdatePolicy(ctx, controldb.UpdatePolicyParams{
		TenantID: by.Tenant, ID: id, Revision: change.Revision(old.GetEtag()), Version: old.GetVersion(),
		Status: policy.Word(old.GetStatus()), Priority: old.GetPriority(), RuleTypes: policy.RuleTypes(old),
	})
	if err != nil {
		return told{}, moved(err, "policy")
	}
	latest, err := q.LatestPolicyVersion(ctx, controldb.LatestPolicyVersionParams{TenantID: by.Tenant, PolicyID: id})
	if err != nil {
		return told{}, fmt.Errorf("look up the newest version: %w", err)
	}
	stored.Version, stored.Etag, stored.UpdatedAt = latest+1, change.Etag(row.Revision), timestamppb.New(row.UpdatedAt)
	if err := insertVersion(ctx, q, by, id, stored.GetVersion(), next); err != nil {
		return told{}, err
	}
	return fact(change.Fact{Type: "policy_version_created", Action: "policy.version", Resource: "policy:" + id.String(), After: stored}), nil
}

// Versions implements policy.Store.
func (s *Store) Versions(ctx context.Context, tenant, id uuid.UUID, before int64, limit int) (out []*lifecyclev1.PolicyVersion, err error) {
	if before == 0 {
		before = math.MaxInt64
	}
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		now, err := q.Policy(ctx, controldb.PolicyParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "policy", id.String())
		}
		rows, err := q.PolicyVersions(ctx, controldb.PolicyVersionsParams{TenantID: tenant, PolicyID: id, Before: before, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("list versions: %w", err)
		}
		for _, row := range rows {
			v, err := policyVersionOf(tenant, now, controldb.PolicyVersionRow(row))
			if err != nil {
				return err
			}
			if err := addTests(ctx, q, tenant, v.GetPolicy()); err != nil {
				return err
			}
			out = append(out, v)
		}
		return nil
	})
	return out, err
}

// Version implements policy.Store.
func (s *Store) Version(ctx context.Context, tenant, id uuid.UUID, version int64) (v *lifecyclev1.PolicyVersion, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		now, err := q.Policy(ctx, controldb.PolicyParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "policy", id.String())
		}
		if version == policy.Newest {
			if version, err = q.LatestPolicyVersion(ctx, controldb.LatestPolicyVersionParams{TenantID: tenant, PolicyID: id}); err != nil {
				return fmt.Errorf("look up the newest version: %w", err)
			}
		}
		row, err := q.PolicyVersion(ctx, controldb.PolicyVersionParams{TenantID: tenant, PolicyID: id, Version: version})
		if err != nil {
			return missing(err, "policy version", fmt.Sprintf("%s/%d", id, version))
		}
		if v, err = policyVersionOf(tenant, now, row); err != nil {
			return err
		}
		return addTests(ctx, q, tenant, v.GetPolicy())
	})
	return v, err
}

// policyVersionOf is a version as the policy would be with it.
func policyVersionOf(tenant uuid.UUID, now controldb.PolicyRow, row controldb.PolicyVersionRow) (*lifecyclev1.PolicyVersion, error) {
	current := now.Version == row.Version
	now.Content, now.Version = row.Content, row.Version
	p, err := policyOf(tenant, now)
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.PolicyVersion{Policy: p, CreatedBy: row.CreatedBy, CreatedAt: timestamppb.New(row.CreatedAt), Current: current}, nil
}

// FormerVersion implements policy.Store.
func (s *Store) FormerVersion(ctx context.Context, tenant, id uuid.UUID, now, wanted int64) (version int64, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		version, err = controldb.New(tx).FormerPolicyVersion(ctx, controldb.FormerPolicyVersionParams{TenantID: tenant, PolicyID: id, NowVersion: now, Wanted: wanted})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fault.New(fault.Precondition, "no such version of the policy was in force before").
			WithReason("NEVER_IN_FORCE").WithHint("Its activations say which were; any version can be activated.")
	}
	if err != nil {
		return 0, fmt.Errorf("look up a former version: %w", err)
	}
	return version, nil
}

// Activations implements policy.Store.
func (s *Store) Activations(ctx context.Context, tenant, id uuid.UUID, before int64, limit int) (out []policy.Activation, err error) {
	if before == 0 {
		before = math.MaxInt64
	}
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		if _, err := q.Policy(ctx, controldb.PolicyParams{TenantID: tenant, ID: id}); err != nil {
			return missing(err, "policy", id.String())
		}
		rows, err := q.PolicyActivations(ctx, controldb.PolicyActivationsParams{TenantID: tenant, PolicyID: id, Before: before, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("list activations: %w", err)
		}
		for _, r := range rows {
			out = append(out, policy.Activation{Revision: r.Revision, Entry: &lifecyclev1.PolicyActivation{
				Action: r.Action, Version: r.Version, FromVersion: r.FromVersion, Actor: r.Actor, At: timestamppb.New(r.At),
				Reason: r.Reason, PolicySetVersion: r.PolicySetVersion, TestsPassed: r.TestsPassed,
			}})
		}
		return nil
	})
	return out, err
}
