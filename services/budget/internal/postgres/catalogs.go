package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/singleflight"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

// Catalogs keeps the published configuration of the tenants seen so far. Safe
// for concurrent use.
type Catalogs struct {
	db  *db.DB
	log *slog.Logger

	first singleflight.Group // loads of tenants that nobody asked for before

	mu    sync.RWMutex // guards known
	known map[uuid.UUID]*catalog.Catalog
}

// NewCatalogs returns an empty cache over d, which the caller still owns.
func NewCatalogs(d *db.DB, log *slog.Logger) *Catalogs {
	return &Catalogs{db: d, log: log, known: make(map[uuid.UUID]*catalog.Catalog)}
}

// loading bounds a load that many callers wait for.
const loading = 5 * time.Second

// Of returns the tenant's catalog, loaded now unless it is known already. All
// who ask for it meanwhile share one load, which ends with none of them.
func (c *Catalogs) Of(ctx context.Context, tenant uuid.UUID) (*catalog.Catalog, error) {
	if cat := c.get(tenant); cat != nil {
		return cat, nil
	}
	loaded := c.first.DoChan(string(tenant[:]), func() (any, error) {
		if cat := c.get(tenant); cat != nil {
			return cat, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loading)
		defer cancel()
		return c.Load(ctx, tenant)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-loaded:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*catalog.Catalog), nil
	}
}

// Knows reports whether the tenant was seen.
func (c *Catalogs) Knows(tenant uuid.UUID) bool { return c.get(tenant) != nil }

func (c *Catalogs) get(tenant uuid.UUID) *catalog.Catalog {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known[tenant]
}

// Load reads what is published for the tenant and keeps it. What cannot be
// used leaves the last good catalog in force, under the new version's number so
// that it is not tried again at every call; without a last good one it is an error.
func (c *Catalogs) Load(ctx context.Context, tenant uuid.UUID) (*catalog.Catalog, error) {
	var row budgetdb.BundleRow
	err := c.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		row, err = budgetdb.New(tx).Bundle(ctx, tenant)
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return c.keep(catalog.Empty(tenant)), nil
	case err != nil:
		return nil, fmt.Errorf("read budgets of tenant %s: %w", tenant, err)
	}
	var bundle configv1.BudgetBundle
	if err = proto.Unmarshal(row.Content, &bundle); err == nil {
		var cat *catalog.Catalog
		if cat, err = catalog.Load(tenant, row.Version, &bundle); err == nil {
			return c.keep(cat), nil
		}
	}
	c.log.LogAttrs(ctx, slog.LevelError, "budgets of a tenant cannot be used",
		slog.String("tenant", tenant.String()), slog.Int64("version", row.Version), slog.Any("err", err))
	if last := c.get(tenant); last != nil {
		return c.keep(last.Renumbered(row.Version)), nil
	}
	return nil, fmt.Errorf("budgets of tenant %s, version %d: %w", tenant, row.Version, err)
}

// keep never goes back to an older version.
func (c *Catalogs) keep(cat *catalog.Catalog) *catalog.Catalog {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.known[cat.Tenant]; old != nil && old.Version > cat.Version {
		return old
	}
	c.known[cat.Tenant] = cat
	return cat
}

// Changed loads the configuration that an event tells of, if the tenant was
// seen before; others are loaded when they are.
func (c *Catalogs) Changed(ctx context.Context, e *busv1.Event) error {
	tenant, err := uuid.Parse(e.GetTenantId())
	if err != nil {
		return fmt.Errorf("tenant of a configuration event: %w", err)
	}
	cat := c.get(tenant)
	if cat == nil || cat.Version >= e.GetConfigVersion() {
		return nil
	}
	_, err = c.Load(ctx, tenant)
	return err
}
