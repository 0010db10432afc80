package trail

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/fulcrum-io/fulcrum/services/audit/internal/merkle"
)

// errContradiction is in every error that says the log lies to itself, as
// against one that could not be read.
var errContradiction = errors.New("the log contradicts itself")

// readBack is how many leaves are hashed again at a time.
const readBack = 1000

// examine returns nil if the log from the signed head to the new one is what
// was hashed, and the signed head's tree is a prefix of the new one's.
func (l *Log) examine(ctx context.Context, tenant uuid.UUID, signed, now merkle.Head) error {
	if now.Size < signed.Size {
		return fmt.Errorf("%w: %d entries, but a checkpoint over %d was signed", errContradiction, now.Size, signed.Size)
	}
	tree := merkle.Reader(l.store.Tiles(ctx, tenant))
	if err := l.rehash(ctx, tenant, signed.Size, now.Size, tree); err != nil {
		return err
	}
	root, err := tlog.TreeHash(now.Size, tree)
	if err != nil {
		return fmt.Errorf("hash the tree of %d: %w", now.Size, err)
	}
	if root != now.Root {
		return fmt.Errorf("%w: the tiles of %d entries do not give the head's root", errContradiction, now.Size)
	}
	if signed.Size == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(now.Size, signed.Size, tree)
	if err != nil {
		return fmt.Errorf("prove that %d extends %d: %w", now.Size, signed.Size, err)
	}
	if err := tlog.CheckTree(proof, now.Size, now.Root, signed.Size, signed.Root); err != nil {
		return fmt.Errorf("%w: the tree of %d does not extend the signed tree of %d", errContradiction, now.Size, signed.Size)
	}
	return nil
}

func (l *Log) rehash(ctx context.Context, tenant uuid.UUID, from, to int64, tree tlog.HashReader) error {
	for at := from; at < to; {
		entries, err := l.store.Entries(ctx, tenant, at, int(min(readBack, to-at)))
		if err != nil {
			return fmt.Errorf("read leaves back: %w", err)
		}
		if len(entries) == 0 {
			return fmt.Errorf("%w: leaf %d is missing", errContradiction, at)
		}
		indexes := make([]int64, len(entries))
		for i := range entries {
			indexes[i] = tlog.StoredHashIndex(0, at+int64(i))
		}
		hashes, err := tree.ReadHashes(indexes)
		if err != nil {
			return fmt.Errorf("read hashes back: %w", err)
		}
		for i, e := range entries {
			if e.Index != at || tlog.RecordHash(e.Bytes) != hashes[i] {
				return fmt.Errorf("%w: leaf %d is not what was hashed", errContradiction, at)
			}
			at++
		}
	}
	return nil
}
