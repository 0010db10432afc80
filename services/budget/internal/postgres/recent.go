package postgres

import (
	"sync"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// recent remembers the latest reservations: what they hold and in which windows
// never changes. It may forget.
//
// It is most of what the service keeps, so it keeps it packed: as reservations,
// every round of the collector spent tens of milliseconds among them.
type recent struct {
	mu       sync.Mutex // guards what follows
	new, old *generation
	unpacked []written
	packing  []byte
}

// written is what a committed batch wrote of what is remembered.
type written struct {
	reservations []*ledger.Reservation
	settlements  []*ledger.Settlement
}

// generation is up to mostRecent reservations, in slabs that are filled one
// after the other.
type generation struct {
	places map[ledger.Ref]spot
	slabs  [][]byte
}

type spot struct {
	slab, from, to uint32
	ended          bool // for all that is known it is open otherwise
}

type remembered struct {
	reservation *ledger.Reservation
	ended       bool
}

const (
	mostRecent   = 50_000 // in each of the two
	slabSize     = 256 << 10
	mostUnpacked = 4 // batches
)

func newRecent() *recent { return &recent{new: newGeneration(), old: newGeneration()} }

func newGeneration() *generation { return &generation{places: make(map[ledger.Ref]spot)} }

func (r *recent) get(ref ledger.Ref) (remembered, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packAll()
	for _, g := range [...]*generation{r.new, r.old} {
		if p, ok := g.places[ref]; ok {
			return remembered{ledger.Unpack(ref, g.slabs[p.slab][p.from:p.to]), p.ended}, true
		}
	}
	return remembered{}, false
}

// add takes note of what a committed batch wrote. It is packed when there is time,
// or when somebody asks: the batch's callers need not wait for it.
func (r *recent) add(w *ledger.Writes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unpacked) == mostUnpacked {
		r.packAll()
	}
	r.unpacked = append(r.unpacked, written{w.Reservations, w.Settlements})
}

// pack packs what was added.
func (r *recent) pack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packAll()
}

func (r *recent) packAll() {
	for _, w := range r.unpacked {
		r.packOne(w)
	}
	clear(r.unpacked)
	r.unpacked = r.unpacked[:0]
}

func (r *recent) packOne(w written) {
	for _, res := range w.reservations {
		if len(r.new.places) >= mostRecent {
			r.old, r.new = r.new, newGeneration()
		}
		if len(res.Parts) > 0 {
			r.packing = res.Pack(r.packing[:0])
			r.new.places[res.Ref] = r.new.keep(r.packing)
		}
	}
	for _, set := range w.settlements {
		for _, g := range [...]*generation{r.new, r.old} {
			if p, ok := g.places[set.Ref]; ok {
				p.ended = true
				g.places[set.Ref] = p
				break
			}
		}
	}
}

// forget is for a reservation that proved not to be there.
func (r *recent) forget(ref ledger.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packAll()
	delete(r.new.places, ref)
	delete(r.old.places, ref)
}

func (g *generation) keep(b []byte) spot {
	last := len(g.slabs) - 1
	if last < 0 || len(g.slabs[last])+len(b) > cap(g.slabs[last]) {
		g.slabs = append(g.slabs, make([]byte, 0, max(slabSize, len(b))))
		last++
	}
	from := len(g.slabs[last])
	g.slabs[last] = append(g.slabs[last], b...)
	return spot{slab: uint32(last), from: uint32(from), to: uint32(from + len(b))}
}
