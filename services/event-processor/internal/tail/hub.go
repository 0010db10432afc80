// Package tail wakes those who follow a tenant's journal when it has grown.
package tail

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Hub knows where journals end: at once for what this process records, within
// Every for what others do. Safe for concurrent use.
type Hub struct {
	// Heads returns the last position of each tenant.
	Heads func(ctx context.Context, tenants []uuid.UUID) (map[uuid.UUID]int64, error)
	Every time.Duration // default 500 ms
	Most  int           // listeners of one tenant, default 100
	Log   *slog.Logger

	mu    sync.Mutex // guards rooms and all in them
	rooms map[uuid.UUID]*room
}

// room is one tenant's listeners.
type room struct {
	position  int64
	listeners map[*Listener]bool
}

// Listener follows one tenant. Close it.
type Listener struct {
	hub    *Hub
	tenant uuid.UUID
	wake   chan struct{} // holds one: there is more than was read
}

// Listen returns a Listener, or a fault.Exhausted if the tenant has too many.
func (h *Hub) Listen(tenant uuid.UUID) (*Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rooms == nil {
		h.rooms = map[uuid.UUID]*room{}
	}
	r := h.rooms[tenant]
	if r == nil {
		r = &room{listeners: map[*Listener]bool{}}
		h.rooms[tenant] = r
	}
	if most := orElse(h.Most, 100); len(r.listeners) >= most {
		return nil, fault.New(fault.Exhausted, "this tenant has %d event streams open already", most).
			WithReason("TOO_MANY_STREAMS").WithRetry(time.Second)
	}
	l := &Listener{hub: h, tenant: tenant, wake: make(chan struct{}, 1)}
	r.listeners[l] = true
	return l, nil
}

// Wake receives when the journal has grown since the last receive.
func (l *Listener) Wake() <-chan struct{} { return l.wake }

// Position is where the journal ends as far as is known: everything up to it
// can be read. It is 0 before the first Wake.
func (l *Listener) Position() int64 {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	return l.hub.rooms[l.tenant].position
}

// Close ends the listening.
func (l *Listener) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	r := l.hub.rooms[l.tenant]
	delete(r.listeners, l)
	if len(r.listeners) == 0 {
		delete(l.hub.rooms, l.tenant)
	}
}

// Moved tells where journals end now. Call it after a commit.
func (h *Hub) Moved(heads map[uuid.UUID]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tenant, position := range heads {
		r := h.rooms[tenant]
		if r == nil || position <= r.position {
			continue
		}
		r.position = position
		for l := range r.listeners {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
	}
}

// Run looks for what other processes record, until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(orElse(h.Every, 500*time.Millisecond))
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		tenants := h.followed()
		if len(tenants) == 0 {
			continue
		}
		heads, err := h.Heads(ctx, tenants)
		if err != nil && !away && ctx.Err() == nil {
			h.Log.LogAttrs(ctx, slog.LevelWarn, "streams wait for the database", slog.Any("err", err))
		}
		away = err != nil
		h.Moved(heads)
	}
}

func (h *Hub) followed() []uuid.UUID {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]uuid.UUID, 0, len(h.rooms))
	for tenant := range h.rooms {
		out = append(out, tenant)
	}
	return out
}

func orElse[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
