package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
)

// FindKey implements credential.Keys.
func (s *Store) FindKey(ctx context.Context, keyID string) (credential.Stored, bool, error) {
	var rows []gatewaydb.FindApiKeyRow
	err := s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) (err error) {
		rows, err = gatewaydb.New(tx).FindApiKey(ctx, keyID)
		return err
	})
	if err != nil || len(rows) == 0 {
		return credential.Stored{}, false, away("find API key", err)
	}
	r := rows[0]
	k := credential.Stored{
		Tenant: r.TenantID, KeyID: r.KeyID, Hash: r.Hash, PepperVersion: int(r.PepperVersion), Scopes: r.Scopes, Roles: r.Roles,
		AgentID: r.AgentID, Team: r.Team, UserID: r.UserID, Revoked: r.Revoked, TenantActive: r.TenantStatus == "active",
	}
	if r.Expires {
		// By the database's clock: how long from now, not when.
		k.ExpiresAt = time.Now().Add(time.Duration(r.ExpiresInSeconds * float64(time.Second)))
	}
	return k, true, nil
}

// Touch implements credential.Journal.
func (s *Store) Touch(ctx context.Context, tenant uuid.UUID, keyID string) error {
	return away("touch API key", s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return gatewaydb.New(tx).TouchApiKey(ctx, keyID)
	}))
}

// Refused implements credential.Journal: the tenant whose key it is learns of it.
func (s *Store) Refused(ctx context.Context, k credential.Stored, why string) error {
	e := fact(k.Tenant, "credential_refused", "key:"+k.KeyID)
	e.Action, e.Resource, e.Decision = "authenticate", "api_key:"+k.KeyID, "DENY"
	e.ApiKeyId, e.AgentId, e.Team, e.UserId = k.KeyID, k.AgentID, k.Team, k.UserID
	e.Payload = facts(map[string]string{"why": why})
	err := s.db.WithTenant(ctx, k.Tenant, func(ctx context.Context, tx db.Tx) error { return outbox.Append(ctx, tx, e) })
	if err == nil {
		s.nudge()
	}
	return away("record refused key", err)
}
