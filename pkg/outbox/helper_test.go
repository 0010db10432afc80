package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

var quiet = slog.New(slog.DiscardHandler)

// jet is a JetStream of the test's own, the product's connection to it, and a
// plain one to look at what arrived.
type jet struct {
	server *devstack.NATS
	bus    *bus.Bus
	js     jetstream.JetStream
}

func startJet(t *testing.T) *jet {
	t.Helper()
	n, err := devstack.StartNATS(devstack.NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop() })
	u, err := url.Parse(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	b, err := bus.Connect(config.NATSSettings{URL: n.ClientURL(), User: u.User.Username(), Password: secret.New(password)}, "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	nc, err := nats.Connect(n.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &jet{n, b, js}
}

// arrived returns what is in the stream of events, in its order.
func (j *jet) arrived(t *testing.T) (events []*busv1.Event) {
	t.Helper()
	s, err := j.js.Stream(t.Context(), bus.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		e := &busv1.Event{}
		if err := proto.Unmarshal(m.Data, e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func (j *jet) count() uint64 {
	s, err := j.js.Stream(context.Background(), bus.EventsStream)
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.Msgs
}

// fake is a bus that keeps what it gets and fails as told.
type fake struct {
	mu   sync.Mutex
	got  []*busv1.Event
	fail func(*busv1.Event) error
}

func (f *fake) EnsureStreams(context.Context) error { return nil }

func (f *fake) PublishAll(_ context.Context, events []*busv1.Event) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := make([]error, len(events))
	for i, e := range events {
		if f.fail != nil {
			errs[i] = f.fail(e)
		}
		if errs[i] == nil {
			f.got = append(f.got, e)
		}
	}
	return errs
}

// publisher is a bus that is one function.
type publisher func([]*busv1.Event) []error

func (publisher) EnsureStreams(context.Context) error { return nil }

func (p publisher) PublishAll(_ context.Context, events []*busv1.Event) []error { return p(events) }

func event(tenant uuid.UUID, n int) *busv1.Event {
	return &busv1.Event{TenantId: tenant.String(), Type: "tested", Writer: "test", Action: fmt.Sprint(n)}
}

func appendEvents(t testing.TB, d *dbtest.Database, tenant uuid.UUID, from, to int) {
	t.Helper()
	err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		for n := from; n < to; n++ {
			if err := Append(ctx, tx, event(tenant, n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run starts a relay and returns how to stop it and wait.
func run(t *testing.T, r *Relay) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("relay: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

func unsent(t *testing.T, d *dbtest.Database) int64 {
	return dbtest.Count(t, d, `select count(*) from fulcrum.outbox where sent_at is null`)
}

// pass is one pass of every lane.
func (r *Relay) pass(ctx context.Context) (moved int, err error) {
	for _, l := range r.lanes {
		n, e := l.pass(ctx)
		moved, err = moved+n, errors.Join(err, e)
	}
	return moved, err
}
