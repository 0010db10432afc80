package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Baselines implements decision.Store.
func (s *Store) Baselines(ctx context.Context, tenant uuid.UUID, ids []uuid.UUID) (map[uuid.UUID]*policyv1.FieldStatistics, error) {
	out := make(map[uuid.UUID]*policyv1.FieldStatistics, len(ids))
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := gatewaydb.New(tx).Baselines(ctx, gatewaydb.BaselinesParams{TenantID: tenant, Ids: ids})
		for _, r := range rows {
			out[r.ID] = &policyv1.FieldStatistics{Samples: r.Samples, Mean: r.Mean, Deviation: r.Deviation}
		}
		return err
	})
	return out, away("read histories of fields", err)
}

// learn adds what the entries that are recorded hold to the histories of their
// fields. It is the last that a batch locks: who waits for a history holds up
// nobody who has none.
func (b *batch) learn(ctx context.Context) error {
	var p gatewaydb.LearnParams
	for _, i := range b.live {
		for _, l := range b.entries[i].Learns {
			if math.IsNaN(l.Value) {
				continue
			}
			p.TenantIds = append(p.TenantIds, b.entries[i].Tenant)
			p.Ids = append(p.Ids, l.Baseline)
			p.Labels = append(p.Labels, l.Label)
			p.Seen = append(p.Seen, l.Value)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := b.q.Learn(ctx, p); err != nil {
		return fmt.Errorf("add %d values to histories: %w", len(p.Ids), err)
	}
	return nil
}

// ForgetBaselines implements sweep.Store.
func (s *Store) ForgetBaselines(ctx context.Context) error {
	for after := uuid.Nil; ; {
		var tenants []uuid.UUID
		err := s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) (err error) {
			tenants, err = gatewaydb.New(tx).BaselineTenants(ctx, gatewaydb.BaselineTenantsParams{After: after, Lim: 100})
			return err
		})
		if err != nil || len(tenants) == 0 {
			return away("find histories to forget", err)
		}
		for _, tenant := range tenants {
			for dropped := int64(1); dropped > 0; {
				err := s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
					dropped, err = gatewaydb.New(tx).DropIdleBaselines(ctx, tenant)
					return err
				})
				if err != nil {
					return away("forget histories", err)
				}
			}
		}
		after = tenants[len(tenants)-1]
	}
}
