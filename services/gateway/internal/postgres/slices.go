package postgres

import (
	"context"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
)

// ClaimSlice implements decision.Store.
func (s *Store) ClaimSlice(ctx context.Context, tenant, env uuid.UUID) error {
	return away("claim a slice", s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return gatewaydb.New(tx).ClaimSlice(ctx, gatewaydb.ClaimSliceParams{TenantID: tenant, EnvelopeID: env})
	}))
}

// SlicesToReturn implements sweep.Store.
func (s *Store) SlicesToReturn(ctx context.Context, tenant uuid.UUID) (envelopes []uuid.UUID, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		envelopes, err = gatewaydb.New(tx).SlicesToReturn(ctx, tenant)
		return err
	})
	return envelopes, away("find slices to return", err)
}

// DropSlice implements sweep.Store.
func (s *Store) DropSlice(ctx context.Context, tenant, env uuid.UUID) error {
	return away("drop a slice", s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return gatewaydb.New(tx).DropSlice(ctx, gatewaydb.DropSliceParams{TenantID: tenant, EnvelopeID: env})
	}))
}
