package webhook

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Queue keeps messages until they are delivered or given up.
type Queue interface {
	// DueTenants returns up to limit tenants after one, in order, that have
	// messages to send now.
	DueTenants(ctx context.Context, after uuid.UUID, limit int) ([]uuid.UUID, error)
	// Claim takes up to limit due messages of a tenant, at most each of one
	// endpoint and none of busy ones. Nobody else gets them for the lease; after
	// it they are due again.
	Claim(ctx context.Context, tenant uuid.UUID, lease time.Duration, each, limit int, busy []uuid.UUID) ([]Message, error)
	// Secrets returns what signs messages to an endpoint.
	Secrets(ctx context.Context, tenant, endpoint uuid.UUID) ([]secret.Secret, error)
	// Finish writes down how an attempt went and what follows, in one
	// transaction. It may be repeated.
	Finish(ctx context.Context, m Message, r Result) error
	// Forget drops what ended long ago.
	Forget(ctx context.Context) error
}

// Post delivers one message.
type Post interface {
	Send(ctx context.Context, to, id string, body []byte, secrets []secret.Secret) Result
}

// Dispatcher sends what is due. Several may run beside each other.
//
// No tenant waits for another's endpoint: each has PerTenant attempts in flight
// at most, and a turn in every round.
type Dispatcher struct {
	Queue Queue
	Post  Post
	Log   *slog.Logger
	Meter *Meter // nil: not measured

	Every       time.Duration // how often is looked for what is due; 1 s
	Lease       time.Duration // longer than an attempt; 30 s
	PerTenant   int           // 8
	PerEndpoint int           // 4
	InFlight    int           // over all tenants; 512

	wake chan struct{}
	all  sync.WaitGroup

	mu     sync.Mutex // guards the rest
	flying map[uuid.UUID]map[uuid.UUID]int
	total  int
	after  uuid.UUID // whose turn was last
}

// NewDispatcher returns one that is idle until Run.
func NewDispatcher(q Queue, p Post, log *slog.Logger) *Dispatcher {
	return &Dispatcher{
		Queue: q, Post: p, Log: log, Every: time.Second, Lease: 30 * time.Second, PerTenant: 8, PerEndpoint: 4, InFlight: 512,
		wake: make(chan struct{}, 1), flying: make(map[uuid.UUID]map[uuid.UUID]int),
	}
}

// Nudge says that there may be something to send.
func (d *Dispatcher) Nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends. What is under way then is cut off, and sent again
// by whoever runs next.
func (d *Dispatcher) Run(ctx context.Context) error {
	defer d.all.Wait()
	tick := time.NewTicker(d.Every)
	defer tick.Stop()
	forget := time.NewTicker(time.Hour)
	defer forget.Stop()
	for {
		if err := d.round(ctx); err != nil && ctx.Err() == nil {
			d.Log.LogAttrs(ctx, slog.LevelWarn, "webhooks wait", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-tick.C:
		case <-forget.C:
			if err := d.Queue.Forget(ctx); err != nil && ctx.Err() == nil {
				d.Log.LogAttrs(ctx, slog.LevelWarn, "old webhook messages are still there", slog.Any("error", err))
			}
		}
	}
}

// page is how many tenants are looked up at a time.
const page = 64

// round gives every tenant with something due a turn, beginning behind the one
// that had the last.
func (d *Dispatcher) round(ctx context.Context) error {
	for wrapped := false; ; {
		d.mu.Lock()
		after, full := d.after, d.total >= d.InFlight
		d.mu.Unlock()
		if full {
			return nil // an attempt that ends nudges
		}
		tenants, err := d.Queue.DueTenants(ctx, after, page)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			if err := d.turn(ctx, tenant); err != nil {
				return err
			}
		}
		d.mu.Lock()
		if len(tenants) < page {
			d.after = uuid.Nil
		} else {
			d.after = tenants[len(tenants)-1]
		}
		d.mu.Unlock()
		if len(tenants) < page {
			if wrapped || after == uuid.Nil {
				return nil
			}
			wrapped = true
		}
	}
}

// turn sends as much of a tenant's as it may have in flight.
func (d *Dispatcher) turn(ctx context.Context, tenant uuid.UUID) error {
	d.mu.Lock()
	var own int
	var busy []uuid.UUID
	for endpoint, n := range d.flying[tenant] {
		own += n
		busy = append(busy, endpoint)
	}
	free := min(d.PerTenant-own, d.InFlight-d.total)
	d.mu.Unlock()
	if free <= 0 {
		return nil
	}
	messages, err := d.Queue.Claim(ctx, tenant, d.Lease, d.PerEndpoint, free, busy)
	if err != nil {
		return err
	}
	for _, m := range messages {
		d.count(m, 1)
		d.all.Go(func() {
			defer d.Nudge() // more of the tenant's may be due
			defer d.count(m, -1)
			d.deliver(ctx, m)
		})
	}
	return nil
}

func (d *Dispatcher) count(m Message, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total += n
	own := d.flying[m.Tenant]
	if own == nil {
		own = make(map[uuid.UUID]int)
		d.flying[m.Tenant] = own
	}
	if own[m.Endpoint] += n; own[m.Endpoint] == 0 {
		delete(own, m.Endpoint)
	}
	if len(own) == 0 {
		delete(d.flying, m.Tenant)
	}
}

func (d *Dispatcher) deliver(ctx context.Context, m Message) {
	secrets, err := d.Queue.Secrets(ctx, m.Tenant, m.Endpoint)
	if err != nil {
		d.failed(ctx, m, err) // ours, not the endpoint's: the lease runs out, and it is due again
		return
	}
	r := d.Post.Send(ctx, m.URL, m.ID(), m.Body, secrets)
	if ctx.Err() != nil && !r.Delivered() {
		return // we cut it off
	}
	d.Meter.attempt(ctx, r)
	// It was sent, so it is written down even while we stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.Queue.Finish(ctx, m, r); err != nil {
		d.failed(ctx, m, err)
	}
}

func (d *Dispatcher) failed(ctx context.Context, m Message, err error) {
	d.Log.LogAttrs(ctx, slog.LevelWarn, "a webhook message is sent again",
		slog.String("tenant", m.Tenant.String()), slog.String("webhook", m.Endpoint.String()), slog.String("message", m.ID()), slog.Any("error", err))
}
