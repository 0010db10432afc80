package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/keys"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tenant"
)

// CreateKey implements keys.Store. What is kept for a repeated call is the
// key's id, never the key.
func (s *Store) CreateKey(ctx context.Context, by identity.Principal, owner uuid.UUID, r keys.Record, once change.Once) (keys.Key, error) {
	var lifetime *float64
	if r.TTL > 0 {
		lifetime = new(r.TTL.Seconds())
	}
	key := keys.Key{ID: r.ID, Name: r.Name, LastFour: r.LastFour, Scopes: r.Scopes}
	answer := &tenantv1.ApiKey{Id: r.ID}
	repeated, err := s.create(ctx, by, owner, once, nil, answer, func(ctx context.Context, q *controldb.Queries) (told, error) {
		if err := mayBeget(ctx, q, by, owner, r, lifetime); err != nil {
			return told{}, err
		}
		row, err := q.InsertApiKey(ctx, controldb.InsertApiKeyParams{
			TenantID: owner, KeyID: r.ID, Name: r.Name, Hash: r.Hash, PepperVersion: r.PepperVersion,
			Scopes: r.Scopes, Roles: append([]string{}, r.Roles...), AgentID: r.Agent, Team: r.Team, UserID: r.User,
			Last4: r.LastFour, CreatedBy: by.Actor(), ExpiresIn: lifetime,
		})
		if err != nil {
			return told{}, fmt.Errorf("insert api key %s: %w", r.ID, noTenant(err))
		}
		key.CreatedAt, key.ExpiresAt = row.CreatedAt, row.ExpiresAt
		state, err := keyState(key, r.Spec)
		return fact(change.Fact{Type: "api_key_created", Action: "api_key.create", Resource: "api_key:" + r.ID, After: state}), err
	})
	if err != nil {
		return keys.Key{}, noTenant(err)
	}
	if repeated {
		return keys.Key{}, fault.New(fault.Exists, "this request has made the key %s already, and its secret was shown then", answer.GetId()).
			WithReason("KEY_SECRET_SHOWN").WithMeta("key_id", answer.GetId()).
			WithHint("If the answer was lost, revoke that key and create another with a new idempotency key.")
	}
	return key, nil
}

// mayBeget looks again at the key that asks for another one, and holds it: what
// the caller's credential said may be some seconds old.
func mayBeget(ctx context.Context, q *controldb.Queries, by identity.Principal, owner uuid.UUID, r keys.Record, lifetime *float64) error {
	if by.Admin || by.KeyID == "" || by.Tenant != owner {
		return nil
	}
	parent, err := q.CreatorKey(ctx, controldb.CreatorKeyParams{TenantID: owner, KeyID: by.KeyID, ExpiresIn: lifetime})
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.Denied, "the key of this call is not a key of the tenant").WithReason("KEY_UNKNOWN")
	}
	if err != nil {
		return fmt.Errorf("read creating key: %w", err)
	}
	if parent.Ended {
		return fault.New(fault.Denied, "the key of this call has ended").WithReason("KEY_ENDED")
	}
	if parent.Outlived {
		return fault.New(fault.Denied, "a key cannot make one that outlives it: it ends at %s", parent.ExpiresAt.UTC().Format(time.RFC3339)).
			WithReason("KEY_OUTLIVES_CREATOR").WithHint("Ask for a shorter expires_in_seconds, or use a key that lasts longer.")
	}
	for _, scope := range r.Scopes {
		if !slices.Contains(parent.Scopes, scope) && !slices.Contains(parent.Scopes, keys.Everything) {
			return fault.New(fault.Denied, "this credential cannot give the scope %q, which it lacks", scope).
				WithReason("SCOPE_ESCALATION").WithMeta("scope", scope)
		}
	}
	return nil
}

// RevokeKey implements keys.Store. The CONFIG event makes the gateways forget
// the key at once.
func (s *Store) RevokeKey(ctx context.Context, by identity.Principal, id string) error {
	_, err := s.change(ctx, by, by.Tenant, nil, func(ctx context.Context, q *controldb.Queries) (told, error) {
		row, err := q.RevokeApiKey(ctx, controldb.RevokeApiKeyParams{TenantID: by.Tenant, KeyID: id, RevokedBy: by.Actor()})
		if err != nil {
			return told{}, missing(err, "API key", id)
		}
		state, err := keyState(
			keys.Key{ID: id, Name: row.Name, LastFour: row.Last4, Scopes: row.Scopes, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt},
			keys.Spec{Agent: row.AgentID, Team: row.Team, User: row.UserID, Roles: row.Roles})
		if err != nil {
			return told{}, err
		}
		return told{
			facts:  []change.Fact{{Type: "api_key_revoked", Action: "api_key.revoke", Resource: "api_key:" + id, Before: state}},
			config: []*busv1.Event{keyGone(id)},
		}, nil
	})
	return err
}

// Keys implements keys.Store.
func (s *Store) Keys(ctx context.Context, tenant uuid.UUID, after *keys.Position, limit int) (page []keys.Key, err error) {
	ask := controldb.ApiKeysParams{TenantID: tenant, Lim: int32(limit)}
	if after != nil {
		ask.Resumed, ask.AfterCreatedAt, ask.AfterKeyID = true, after.CreatedAt, after.ID
	}
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := controldb.New(tx).ApiKeys(ctx, ask)
		if err != nil {
			return fmt.Errorf("list api keys: %w", err)
		}
		for _, row := range rows {
			page = append(page, keys.Key{
				ID: row.KeyID, Name: row.Name, LastFour: row.Last4, Scopes: row.Scopes,
				CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt, UsedAt: row.LastUsedAt,
			})
		}
		return nil
	})
	return page, err
}

// keyGone tells the gateways to forget a key.
func keyGone(id string) *busv1.Event {
	return configEvent(apiKeys, 0, &structpb.Struct{Fields: map[string]*structpb.Value{"key_id": structpb.NewStringValue(id)}})
}

// keyState is what the record says about a key: all that people may know.
func keyState(k keys.Key, s keys.Spec) (proto.Message, error) {
	list := func(words []string) []any {
		out := make([]any, len(words))
		for i, w := range words {
			out[i] = w
		}
		return out
	}
	state := map[string]any{
		"key_id": k.ID, "name": k.Name, "key_hint": k.Hint(), "scopes": list(k.Scopes), "roles": list(s.Roles),
		"agent_id": s.Agent, "team": s.Team, "user_id": s.User,
	}
	if k.ExpiresAt != nil {
		state["expires_at"] = timestamppb.New(*k.ExpiresAt).AsTime().Format(time.RFC3339Nano)
	}
	out, err := structpb.NewStruct(state)
	if err != nil {
		return nil, fmt.Errorf("describe api key %s: %w", k.ID, err)
	}
	return out, nil
}

// noTenant says that a row's tenant does not exist, if that is what failed.
func noTenant(err error) error {
	switch db.Constraint(err) {
	case "api_keys_tenant_id_fkey", "control_idempotency_tenant_id_fkey", "config_bundles_tenant_id_fkey":
		return tenant.Missing()
	}
	return err
}
