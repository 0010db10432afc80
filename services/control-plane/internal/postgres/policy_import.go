package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
)

// ImportPolicies implements policy.Store.
func (s *Store) ImportPolicies(ctx context.Context, by identity.Principal, from policy.Source, all []policy.Taken) ([]*policyv1.Policy, error) {
	stored := make([]*policyv1.Policy, len(all))
	_, err := s.changeAt(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries, versions map[kind]int64) (told, error) {
		var names []string
		for _, t := range all {
			names = append(names, t.Name)
		}
		// The bundle's row is locked, so of two imports one sees the other.
		if err := importable(ctx, q, by.Tenant, from, names); err != nil {
			return told{}, err
		}
		if err := q.NotePolicyImports(ctx, controldb.NotePolicyImportsParams{
			TenantID: by.Tenant, Source: from.Name, ExportedAt: from.ExportedAt, Names: names,
		}); err != nil {
			return told{}, fmt.Errorf("note imports: %w", err)
		}
		var what told
		for i, t := range all {
			var one told
			var err error
			switch {
			case t.Next == nil:
				stored[i] = t.Old
				continue
			case t.Old == nil:
				stored[i] = proto.CloneOf(t.Next)
				one, err = insertPolicy(ctx, q, by, t.Next, stored[i], versions, policy.Note{})
			default:
				stored[i] = proto.CloneOf(t.Next)
				one, err = insertNext(ctx, q, by, t.Old, t.Next, stored[i])
			}
			if err != nil {
				return told{}, fmt.Errorf("import policy %q: %w", t.Name, err)
			}
			what.facts = append(what.facts, one.facts...)
		}
		return what, nil
	})
	return stored, err
}

// Importable implements policy.Store.
func (s *Store) Importable(ctx context.Context, tenant uuid.UUID, from policy.Source, names []string) error {
	return s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return importable(ctx, controldb.New(tx), tenant, from, names)
	})
}

func importable(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, from policy.Source, names []string) error {
	if from.AllowOlder {
		return nil
	}
	newer, err := q.NewerPolicyImports(ctx, controldb.NewerPolicyImportsParams{TenantID: tenant, Source: from.Name, ExportedAt: from.ExportedAt, Names: names})
	if err != nil {
		return fmt.Errorf("look for later imports: %w", err)
	}
	if len(newer) > 0 {
		return policy.Outdated(newer[0].Name, newer[0].ExportedAt, from.ExportedAt)
	}
	return nil
}
