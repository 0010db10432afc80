// Package postgres keeps the logs in PostgreSQL.
package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/auditdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/merkle"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

// Store implements trail.Store.
type Store struct{ db *db.DB }

// New returns a Store in d.
func New(d *db.DB) *Store { return &Store{d} }

// Append implements trail.Store. The head's row lock puts appenders in order,
// across any number of processes.
func (s *Store) Append(ctx context.Context, tenant uuid.UUID, fn func(context.Context, trail.Appending) error) error {
	return s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q, empty := auditdb.New(tx), merkle.Empty()
		if err := q.EnsureHead(ctx, auditdb.EnsureHeadParams{TenantID: tenant, EmptyRoot: empty.Root[:]}); err != nil {
			return fmt.Errorf("ensure head: %w", err)
		}
		h, err := q.LockHead(ctx, tenant)
		if err != nil {
			return fmt.Errorf("lock head: %w", err)
		}
		return fn(ctx, &appending{tx: tx, q: q, tenant: tenant, head: merkle.Head{Size: h.Size, Root: tlog.Hash(h.Root)}})
	})
}

// Head implements trail.Store.
func (s *Store) Head(ctx context.Context, tenant uuid.UUID) (merkle.Head, error) {
	head := merkle.Empty()
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		h, err := auditdb.New(tx).Head(ctx, tenant)
		if err == nil {
			head = merkle.Head{Size: h.Size, Root: tlog.Hash(h.Root)}
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return head, nil
	}
	return head, err
}

// Tiles implements trail.Store.
func (s *Store) Tiles(ctx context.Context, tenant uuid.UUID) merkle.Source {
	return func(keys []merkle.Key) (tiles map[merkle.Key][]byte, err error) {
		err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
			tiles, err = readTiles(ctx, auditdb.New(tx), tenant, keys)
			return err
		})
		return tiles, err
	}
}

func readTiles(ctx context.Context, q *auditdb.Queries, tenant uuid.UUID, keys []merkle.Key) (map[merkle.Key][]byte, error) {
	arg := auditdb.TilesParams{TenantID: tenant}
	for _, k := range keys {
		arg.Levels, arg.Ns = append(arg.Levels, int32(k.Level)), append(arg.Ns, k.N)
	}
	rows, err := q.Tiles(ctx, arg)
	if err != nil {
		return nil, fmt.Errorf("read tiles: %w", err)
	}
	tiles := make(map[merkle.Key][]byte, len(rows))
	for _, r := range rows {
		tiles[merkle.Key{Level: int(r.Level), N: r.N}] = r.Hashes
	}
	return tiles, nil
}

// LatestCheckpoint implements trail.Store.
func (s *Store) LatestCheckpoint(ctx context.Context, tenant uuid.UUID) (trail.Checkpoint, error) {
	var c trail.Checkpoint
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		b, err := auditdb.New(tx).LatestBlock(ctx, tenant)
		if err == nil {
			c = trail.Checkpoint{Head: merkle.Head{Size: b.Size, Root: tlog.Hash(b.Root)}, Note: b.Note, SignedAt: b.SignedAt}
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return c, fault.New(fault.NotFound, "the audit log has no signed checkpoint yet").WithReason("AUDIT_EMPTY")
	}
	return c, err
}

// PutCheckpoint implements trail.Store.
func (s *Store) PutCheckpoint(ctx context.Context, tenant uuid.UUID, c trail.Checkpoint) error {
	return s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		return auditdb.New(tx).InsertBlock(ctx, auditdb.InsertBlockParams{TenantID: tenant, Size: c.Size, Root: c.Root[:], Note: c.Note})
	})
}

// Unsigned implements trail.Store.
func (s *Store) Unsigned(ctx context.Context, limit int) (tenants []uuid.UUID, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = auditdb.New(tx).UnsignedTenants(ctx, int32(limit))
		return err
	})
	return tenants, err
}
