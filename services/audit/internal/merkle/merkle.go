// Package merkle grows and reads an RFC 6962 tree that is kept as tlog tiles.
package merkle

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// TileHeight gives 256 hashes a tile, as C2SP tlog-tiles has it.
const TileHeight = 8

// Key names a tile by its level and place in the level.
type Key struct {
	Level int
	N     int64
}

// Tile is a full tile or the filled part of the rightmost one of its level.
type Tile struct {
	Key
	Hashes []byte // 32 bytes each
}

// Source fetches tiles by key. A tile that is not there is left out.
type Source func(keys []Key) (map[Key][]byte, error)

// Head is a tree's size and root.
type Head struct {
	Size int64
	Root tlog.Hash
}

// Empty is the head of the tree without leaves (RFC 6962 section 2.1).
func Empty() Head {
	root, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic(err) // the hash of nothing reads nothing
	}
	return Head{Root: root}
}

// Append returns the head and the tiles after adding the leaves to a tree of
// the given size.
func Append(size int64, leaves [][]byte, stored Source) (Head, []Tile, error) {
	r := &reader{source: stored, fresh: map[int64]tlog.Hash{}, seen: map[Key][]byte{}}
	for i, data := range leaves {
		n := size + int64(i)
		hashes, err := tlog.StoredHashesForRecordHash(n, tlog.RecordHash(data), r)
		if err != nil {
			return Head{}, nil, fmt.Errorf("hash leaf %d: %w", n, err)
		}
		at := tlog.StoredHashIndex(0, n)
		for j, h := range hashes {
			r.fresh[at+int64(j)] = h
		}
	}
	now := size + int64(len(leaves))
	root, err := tlog.TreeHash(now, r)
	if err != nil {
		return Head{}, nil, fmt.Errorf("root of %d leaves: %w", now, err)
	}

	// NewTiles names each tile once a width on the way; only the widest counts.
	widest := map[Key]tlog.Tile{}
	for _, t := range tlog.NewTiles(TileHeight, size, now) {
		k := Key{t.L, t.N}
		if t.W >= widest[k].W {
			widest[k] = t
		}
	}
	tiles := make([]Tile, 0, len(widest))
	for k, t := range widest {
		data, err := tlog.ReadTileData(t, r)
		if err != nil {
			return Head{}, nil, fmt.Errorf("tile %s: %w", t.Path(), err)
		}
		tiles = append(tiles, Tile{Key: k, Hashes: data})
	}
	return Head{Size: now, Root: root}, tiles, nil
}

// Reader reads a stored tree's hashes for tlog's proofs.
func Reader(stored Source) tlog.HashReader {
	return &reader{source: stored, seen: map[Key][]byte{}}
}

// reader is a tlog.HashReader over tiles, and over hashes not stored yet.
type reader struct {
	source Source
	fresh  map[int64]tlog.Hash // by stored-hash index
	seen   map[Key][]byte
}

func (r *reader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var missing []Key
	for _, x := range indexes {
		if _, ok := r.fresh[x]; ok {
			continue
		}
		t := tlog.TileForIndex(TileHeight, x)
		k := Key{t.L, t.N}
		if _, ok := r.seen[k]; !ok {
			r.seen[k] = nil
			missing = append(missing, k)
		}
	}
	if len(missing) > 0 {
		got, err := r.source(missing)
		if err != nil {
			return nil, err
		}
		for k, data := range got {
			r.seen[k] = data
		}
	}

	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if h, ok := r.fresh[x]; ok {
			out[i] = h
			continue
		}
		t := tlog.TileForIndex(TileHeight, x)
		h, err := tlog.HashFromTile(t, r.seen[Key{t.L, t.N}], x)
		if err != nil {
			return nil, fmt.Errorf("hash %d: %w", x, err)
		}
		out[i] = h
	}
	return out, nil
}
