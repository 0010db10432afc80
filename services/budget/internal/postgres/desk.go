package postgres

import (
	"sync"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// desk is what a batch works on. One decided from memory leaves it to the next: made
// anew for each, this was a quarter of what a batch allocated. Nothing that outlives
// such a batch may point into it.
type desk struct {
	windows map[ledger.WindowKey]*ledger.Window // of the books, in copies
	draws   map[ledger.WindowKey]*ledger.Draw
	locked  []ledger.WindowKey
	copies  []ledger.Window
	rows    []ledger.Window // the same, as they are saved
}

// mostOnDesk is how many windows a desk has room for; a batch with more takes
// what it needs, and leaves it.
const mostOnDesk = 1024

var desks = sync.Pool{New: func() any { return newDesk() }}

func newDesk() *desk {
	return &desk{windows: make(map[ledger.WindowKey]*ledger.Window), draws: make(map[ledger.WindowKey]*ledger.Draw)}
}

// leave clears it for the next batch, but for the windows, which that overwrites.
func (d *desk) leave() {
	if len(d.draws) > mostOnDesk {
		return
	}
	clear(d.windows)
	clear(d.draws)
	clear(d.locked)
	d.locked = d.locked[:0]
	desks.Put(d)
}

// lay puts copies of the windows of the keys on the desk, twice. It reports whether
// memory had all.
func (d *desk) lay(from *balances, keys []ledger.WindowKey) bool {
	d.copies, d.rows = room(d.copies, len(keys)), room(d.rows, len(keys))
	if !from.copies(keys, d.rows) {
		return false
	}
	copy(d.copies, d.rows)
	for i, key := range keys {
		d.windows[key] = &d.copies[i]
	}
	return true
}

// room is n windows, in the same place if there are as many.
func room(windows []ledger.Window, n int) []ledger.Window {
	if n <= cap(windows) {
		return windows[:n]
	}
	return make([]ledger.Window, n, 2*n)
}
