// Package trail keeps one verifiable log per tenant: it gives events their
// place, signs what it can prove, and proves what it signed.
package trail

import (
	"context"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/fulcrum-io/fulcrum/services/audit/internal/leaf"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/merkle"
)

// Entry is a leaf with what its payload hash was made of.
type Entry struct {
	leaf.Leaf
	Bytes   []byte // the leaf as it was hashed
	Payload []byte // absent after retention or erasure, as is Salt
	Salt    []byte
}

// Checkpoint is a signed tree head ("log checkpoint" beside an agent's).
type Checkpoint struct {
	merkle.Head
	Note     string // C2SP tlog-checkpoint, a signed note
	SignedAt time.Time
}

// Appending is a transaction that holds the lock of one tenant's head: nobody
// else appends to that log until it ends.
type Appending interface {
	// Fresh returns which of the events this consumer has not taken in yet, and
	// marks them taken in the same transaction.
	Fresh(ctx context.Context, events []uuid.UUID) (map[uuid.UUID]bool, error)
	Head() merkle.Head
	Tiles(ctx context.Context) merkle.Source
	// Write stores the entries, the tiles and the new head. All or nothing.
	Write(ctx context.Context, head merkle.Head, entries []Entry, tiles []merkle.Tile) error
}

// Store keeps the logs.
type Store interface {
	// Append runs fn holding the tenant's head and commits if it returns nil.
	Append(ctx context.Context, tenant uuid.UUID, fn func(context.Context, Appending) error) error
	// Head is the committed head; the empty one for a tenant without entries.
	Head(ctx context.Context, tenant uuid.UUID) (merkle.Head, error)
	Tiles(ctx context.Context, tenant uuid.UUID) merkle.Source
	Entries(ctx context.Context, tenant uuid.UUID, start int64, limit int) ([]Entry, error)
	// EntryOf is a fault.NotFound while the event has not been sequenced.
	EntryOf(ctx context.Context, tenant, event uuid.UUID) (Entry, error)
	// LatestCheckpoint is a fault.NotFound before the first.
	LatestCheckpoint(ctx context.Context, tenant uuid.UUID) (Checkpoint, error)
	PutCheckpoint(ctx context.Context, tenant uuid.UUID, c Checkpoint) error
	// Unsigned lists tenants whose newest entries no checkpoint covers.
	Unsigned(ctx context.Context, limit int) ([]uuid.UUID, error)
}

// Log is every tenant's log behind one signing key.
type Log struct {
	store  Store
	signer *Signer
	salt   func() []byte
	told   Observer
}

// New returns a Log over store that signs with signer, salts payloads with
// what salt returns (leaf.SaltSize random bytes a call) and tells told.
func New(store Store, signer *Signer, salt func() []byte, told Observer) *Log {
	return &Log{store: store, signer: signer, salt: salt, told: told}
}

// Entries pages through a tenant's log in order.
func (l *Log) Entries(ctx context.Context, tenant uuid.UUID, start int64, limit int) ([]Entry, error) {
	return l.store.Entries(ctx, tenant, start, limit)
}

// Latest returns the newest checkpoint.
func (l *Log) Latest(ctx context.Context, tenant uuid.UUID) (Checkpoint, error) {
	return l.store.LatestCheckpoint(ctx, tenant)
}

// VerifierKey is the public key that checkpoints verify against.
func (l *Log) VerifierKey() string { return l.signer.VerifierKey() }

// Origin is the first line of every checkpoint of the tenant's log.
func (l *Log) Origin(tenant uuid.UUID) string { return l.signer.Origin(tenant) }

func hashesOf[T ~[]tlog.Hash](proof T) [][]byte {
	out := make([][]byte, len(proof))
	for i, h := range proof {
		out[i] = h[:]
	}
	return out
}
