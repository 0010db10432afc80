package evidence

import "golang.org/x/mod/sumdb/tlog"

// tree is an RFC 6962 tree of which only the roots of its full subtrees are
// kept, largest first: enough to grow it and to know its root.
type tree struct {
	size  int64
	roots []tlog.Hash
}

func (t *tree) add(leaf tlog.Hash) {
	t.roots = append(t.roots, leaf)
	t.size++
	for n := t.size; n%2 == 0; n /= 2 { // two subtrees of one size make one
		last := len(t.roots) - 1
		t.roots[last-1] = tlog.NodeHash(t.roots[last-1], t.roots[last])
		t.roots = t.roots[:last]
	}
}

func (t *tree) root() tlog.Hash {
	if len(t.roots) == 0 {
		empty, err := tlog.TreeHash(0, nil)
		if err != nil {
			panic(err) // the hash of nothing reads nothing
		}
		return empty
	}
	root := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		root = tlog.NodeHash(t.roots[i], root)
	}
	return root
}
