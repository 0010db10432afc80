package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/auditdb"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/merkle"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

// Consumer is audit's name in the inbox and on the bus.
const Consumer = "audit"

// appending implements trail.Appending inside the transaction that holds the
// head's row lock.
type appending struct {
	tx     db.Tx
	q      *auditdb.Queries
	tenant uuid.UUID
	head   merkle.Head
}

func (a *appending) Head() merkle.Head { return a.head }

func (a *appending) Fresh(ctx context.Context, events []uuid.UUID) (map[uuid.UUID]bool, error) {
	fresh, err := outbox.Inbox(ctx, a.tx, Consumer, a.tenant, events)
	if err != nil {
		return nil, err
	}
	// The inbox is trimmed in time; the log is for ever.
	known, err := a.q.KnownEvents(ctx, auditdb.KnownEventsParams{TenantID: a.tenant, EventIds: events})
	if err != nil {
		return nil, err
	}
	for _, id := range known {
		delete(fresh, id)
	}
	return fresh, nil
}

func (a *appending) Tiles(ctx context.Context) merkle.Source {
	return func(keys []merkle.Key) (map[merkle.Key][]byte, error) {
		return readTiles(ctx, a.q, a.tenant, keys)
	}
}

func (a *appending) Write(ctx context.Context, head merkle.Head, entries []trail.Entry, tiles []merkle.Tile) error {
	leaves := auditdb.InsertLeavesParams{TenantID: a.tenant}
	payloads := auditdb.InsertPayloadsParams{TenantID: a.tenant}
	for _, e := range entries {
		leaves.Indexes = append(leaves.Indexes, e.Index)
		leaves.EventIds = append(leaves.EventIds, e.Event)
		leaves.Leaves = append(leaves.Leaves, e.Bytes)
		leaves.OccurredAt = append(leaves.OccurredAt, e.At)
		leaves.Actors = append(leaves.Actors, e.Actor)
		leaves.Actions = append(leaves.Actions, e.Action)
		leaves.Resources = append(leaves.Resources, e.Resource)
		leaves.Decisions = append(leaves.Decisions, e.Decision)
		leaves.PolicyVersions = append(leaves.PolicyVersions, e.PolicyVersion)
		payloads.Indexes = append(payloads.Indexes, e.Index)
		payloads.Salts = append(payloads.Salts, e.Salt)
		payloads.Payloads = append(payloads.Payloads, e.Payload)
	}
	if err := a.q.InsertLeaves(ctx, leaves); err != nil {
		return fmt.Errorf("insert leaves: %w", err)
	}
	if err := a.q.InsertPayloads(ctx, payloads); err != nil {
		return fmt.Errorf("insert payloads: %w", err)
	}
	put := auditdb.PutTilesParams{TenantID: a.tenant}
	for _, t := range tiles {
		put.Levels = append(put.Levels, int32(t.Level))
		put.Ns = append(put.Ns, t.N)
		put.Widths = append(put.Widths, int32(len(t.Hashes)/32))
		put.Hashes = append(put.Hashes, t.Hashes)
	}
	if err := a.q.PutTiles(ctx, put); err != nil {
		return fmt.Errorf("put tiles: %w", err)
	}
	if err := a.q.MoveHead(ctx, auditdb.MoveHeadParams{TenantID: a.tenant, Size: head.Size, Root: head.Root[:]}); err != nil {
		return fmt.Errorf("move head: %w", err)
	}
	return nil
}
