// Package postgres reads published policies.
package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/enginedb"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/tenants"
)

// Bundles implements tenants.Source.
type Bundles struct{ db *db.DB }

// NewBundles returns a Source over d, which the caller still owns.
func NewBundles(d *db.DB) *Bundles { return &Bundles{d} }

// Load implements tenants.Source.
func (b *Bundles) Load(ctx context.Context, tenant uuid.UUID) (out tenants.Bundle, err error) {
	err = b.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		row, err := enginedb.New(tx).PolicyBundle(ctx, tenant)
		out = tenants.Bundle{Version: row.Version, Content: row.Content}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return tenants.Bundle{}, nil
	}
	if err != nil {
		return tenants.Bundle{}, fmt.Errorf("load policies: %w", err)
	}
	return out, nil
}

// Version implements tenants.Source.
func (b *Bundles) Version(ctx context.Context, tenant uuid.UUID) (version int64, err error) {
	err = b.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		version, err = enginedb.New(tx).PolicyBundleVersion(ctx, tenant)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up policy version: %w", err)
	}
	return version, nil
}
