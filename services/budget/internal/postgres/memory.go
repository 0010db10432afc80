package postgres

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// presence remembers which windows have a row, so that a batch does not try to
// insert them. It may forget.
type presence struct {
	mu   sync.Mutex // guards keys
	keys map[ledger.WindowKey]struct{}
}

const mostPresent = 200_000

func newPresence() *presence { return &presence{keys: make(map[ledger.WindowKey]struct{})} }

func (p *presence) has(key ledger.WindowKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.keys[key]
	return ok
}

func (p *presence) add(keys []ledger.WindowKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keys) > mostPresent {
		clear(p.keys)
	}
	for _, key := range keys {
		p.keys[key] = struct{}{}
	}
}

func (p *presence) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.keys)
}

// balances remember windows as they were last saved, and for which tenants that
// has lately proved wrong, because another instance writes the same rows.
type balances struct {
	mu       sync.Mutex // guards new, old and wary
	new, old map[ledger.WindowKey]*ledger.Window
	wary     map[uuid.UUID]distrust
}

type distrust struct {
	until time.Time
	pause time.Duration
}

const (
	mostBalances  = 100_000 // in each of the two
	mostWary      = 100_000
	shortDistrust = 100 * time.Millisecond
	longDistrust  = 10 * time.Second
)

func newBalances() *balances {
	return &balances{new: make(map[ledger.WindowKey]*ledger.Window), wary: make(map[uuid.UUID]distrust)}
}

// trusted reports whether memory may be gone by for all the tenants.
func (m *balances) trusted(tenants []uuid.UUID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tenant := range tenants {
		if d, ok := m.wary[tenant]; ok && time.Now().Before(d.until) {
			return false
		}
	}
	return true
}

// copies fills windows with those of the keys as their rows are, and reports
// whether it knew all.
func (m *balances) copies(keys []ledger.WindowKey, windows []ledger.Window) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, key := range keys {
		w := m.new[key]
		if w == nil {
			w = m.old[key]
		}
		if w == nil {
			return false
		}
		windows[i] = *w
	}
	return true
}

// put takes note of the windows of a batch that is committed.
func (m *balances) put(windows map[ledger.WindowKey]*ledger.Window, keys []ledger.WindowKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		if len(m.new) >= mostBalances {
			m.old, m.new = m.new, make(map[ledger.WindowKey]*ledger.Window)
		}
		w := windows[key]
		if w == nil {
			continue
		}
		kept := m.new[key]
		if kept == nil {
			kept = new(ledger.Window)
			m.new[key] = kept
		}
		*kept = *w.Saved()
	}
}

// drop forgets windows; wrong says that they were, for these tenants.
func (m *balances) drop(keys []ledger.WindowKey, wrong bool, tenants []uuid.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.new, key)
		delete(m.old, key)
	}
	if !wrong {
		return
	}
	if len(m.wary) > mostWary {
		clear(m.wary)
	}
	for _, tenant := range tenants {
		pause := min(max(2*m.wary[tenant].pause, shortDistrust), longDistrust)
		m.wary[tenant] = distrust{time.Now().Add(pause), pause}
	}
}

// trust ends the growth of distrust after memory was right.
func (m *balances) trust(tenants []uuid.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tenant := range tenants {
		delete(m.wary, tenant)
	}
}

// hearing is how long the database's time is gone by without asking again.
const hearing = time.Second

// clockGuess estimates the database's time from when it was last heard.
type clockGuess struct {
	mu    sync.Mutex // guards heard and at
	heard time.Time  // the database's
	at    time.Time  // ours, monotonic
}

// now returns the estimate, and false before anything was heard.
func (c *clockGuess) now() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return time.Time{}, false
	}
	return c.heard.Add(time.Since(c.at)), true
}

// old reports whether the database was last heard so long ago that its clock may
// have been set meanwhile.
func (c *clockGuess) old() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.at) > hearing
}

// set takes note of what the database said the time was at our time at.
func (c *clockGuess) set(heard, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.at = heard, at
}
