package credential

import "sync/atomic"

// epochs counts revocations, a slot for many keys: two keys that share a slot
// only make each other look twice.
type epochs struct {
	slots [256]atomic.Uint64
	all   atomic.Uint64
}

func newEpochs() *epochs { return &epochs{} }

func (e *epochs) of(keyID string) uint64 { return e.slot(keyID).Load() + e.all.Load() }

func (e *epochs) move(keyID string) {
	if keyID == "" {
		e.all.Add(1)
		return
	}
	e.slot(keyID).Add(1)
}

func (e *epochs) slot(keyID string) *atomic.Uint64 {
	var h uint8
	for i := range len(keyID) {
		h = h*31 + keyID[i]
	}
	return &e.slots[h]
}
