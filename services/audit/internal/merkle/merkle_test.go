package merkle

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// memory keeps tiles as the database does: the widest of each wins.
type memory map[Key][]byte

func (m memory) read(keys []Key) (map[Key][]byte, error) {
	out := map[Key][]byte{}
	for _, k := range keys {
		if b, ok := m[k]; ok {
			out[k] = b
		}
	}
	return out, nil
}

func (m memory) put(tiles []Tile) {
	for _, t := range tiles {
		if len(m[t.Key]) < len(t.Hashes) {
			m[t.Key] = t.Hashes
		}
	}
}

// flat is tlog's own way to keep a tree: every hash in one list.
type flat []tlog.Hash

func (f flat) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = f[x]
	}
	return out, nil
}

// However a log is cut into batches, it is the same tree as the plain one, and
// every leaf and every prefix can be proven from the tiles alone.
func TestTilesGiveTheSameTreeAsAPlainList(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		tiles, plain, head := memory{}, flat{}, Empty()
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			before := head
			var leaves [][]byte
			for range rapid.IntRange(1, 300).Draw(t, "leaves") {
				n := head.Size + int64(len(leaves))
				data := fmt.Appendf(nil, "leaf %d", n)
				leaves = append(leaves, data)
				hashes, err := tlog.StoredHashes(n, data, plain)
				if err != nil {
					t.Fatal(err)
				}
				plain = append(plain, hashes...)
			}
			next, changed, err := Append(head.Size, leaves, tiles.read)
			if err != nil {
				t.Fatal(err)
			}
			tiles.put(changed)
			want, err := tlog.TreeHash(next.Size, plain)
			if err != nil {
				t.Fatal(err)
			}
			if next.Root != want {
				t.Fatalf("root of %d leaves is %v, want %v", next.Size, next.Root, want)
			}
			if before.Size > 0 {
				proof, err := tlog.ProveTree(next.Size, before.Size, Reader(tiles.read))
				if err != nil {
					t.Fatal(err)
				}
				if err := tlog.CheckTree(proof, next.Size, next.Root, before.Size, before.Root); err != nil {
					t.Fatal(err)
				}
			}
			head = next
		}
		index := rapid.Int64Range(0, head.Size-1).Draw(t, "index")
		proof, err := tlog.ProveRecord(head.Size, index, Reader(tiles.read))
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, head.Size, head.Root, index, tlog.RecordHash(fmt.Appendf(nil, "leaf %d", index))); err != nil {
			t.Fatal(err)
		}
	})
}
