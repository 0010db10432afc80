package bus

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// server is a JetStream of the test's own, and a Bus on it.
func server(t *testing.T) (*devstack.NATS, *Bus) {
	t.Helper()
	n, err := devstack.StartNATS(devstack.NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	b := connect(t, n)
	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n, b
}

func connect(t *testing.T, n *devstack.NATS) *Bus {
	t.Helper()
	b, err := Connect(settings(t, n.URL()), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func settings(t *testing.T, raw string) config.NATSSettings {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := config.NATSSettings{URL: raw}
	if u.User != nil {
		if password, ok := u.User.Password(); ok {
			s.User, s.Password = u.User.Username(), secret.New(password)
		}
	}
	return s
}

func event(tenant uuid.UUID, kind string) *busv1.Event {
	return &busv1.Event{EventId: uuid.Must(uuid.NewV7()).String(), TenantId: tenant.String(), Stream: busv1.Stream_STREAM_EVENTS,
		Type: kind, OccurredAt: timestamppb.Now()}
}

// recorder is a consumer's effect: what was handled and what was buried.
type recorder struct {
	mu      sync.Mutex
	handled []string
	dead    []Dead
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{}, 1)} }

func (r *recorder) note(do func()) {
	r.mu.Lock()
	do()
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) bury(_ context.Context, d Dead) error {
	r.note(func() { r.dead = append(r.dead, d) })
	return nil
}

// await waits until done holds, or the test's patience ends.
func (r *recorder) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		ok := done()
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.changed:
		case <-limit:
			t.Fatalf("%s did not happen; handled %v, dead %v", what, r.handled, r.dead)
		}
	}
}

func consume(t *testing.T, b *Bus, c Consumer) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.Consume(ctx, c)
	}()
	t.Cleanup(func() { stop(); <-ended })
}

func TestAPoisonMessageIsBuriedWithItsReasonAndItsNeighboursAreHandled(t *testing.T) {
	t.Parallel()

	_, b := server(t)
	tenant, r := uuid.New(), newRecorder()
	good, poison, panics := event(tenant, "good"), event(tenant, "poison"), event(tenant, "panic")
	for _, err := range b.PublishAll(t.Context(), []*busv1.Event{good, poison, panics}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	consume(t, b, Consumer{Durable: "c", MaxDeliver: 3, Retry: time.Millisecond, Bury: r.bury,
		Handle: func(_ context.Context, batch []Message) error {
			for _, m := range batch {
				switch m.Event.GetType() {
				case "poison":
					return errors.New("cannot digest this")
				case "panic":
					panic("boom")
				}
			}
			r.note(func() {
				for _, m := range batch {
					r.handled = append(r.handled, m.Event.GetEventId())
				}
			})
			return nil
		}})

	r.await(t, "burial of both", func() bool { return len(r.dead) == 2 && slices.Contains(r.handled, good.GetEventId()) })
	for _, d := range r.dead {
		if d.Deliveries != 3 || d.Tenant != tenant.String() || d.Consumer != "c" || d.Err == nil {
			t.Errorf("dead letter does not say enough: %+v", d)
		}
	}
}

func TestAMessageOfAnotherTenantThanItsSubjectIsBuriedAtOnce(t *testing.T) {
	t.Parallel()

	_, b := server(t)
	r, e := newRecorder(), event(uuid.New(), "forged")
	msg, err := message(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = eventsPrefix + "." + uuid.NewString() + ".forged"
	if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	consume(t, b, Consumer{Durable: "c", Bury: r.bury, Handle: func(context.Context, []Message) error {
		r.note(func() { r.handled = append(r.handled, "forged") })
		return nil
	}})
	r.await(t, "burial", func() bool { return len(r.dead) == 1 && len(r.handled) == 0 })
}

func TestALostAckBringsTheMessageAgain(t *testing.T) {
	t.Parallel()

	_, b := server(t)
	r, e := newRecorder(), event(uuid.New(), "once")
	if err := b.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	lost := false
	consume(t, b, Consumer{Durable: "c", AckWait: 200 * time.Millisecond, Bury: r.bury,
		Handle: func(_ context.Context, batch []Message) error {
			r.note(func() { r.handled = append(r.handled, batch[0].Event.GetEventId()) })
			return nil
		},
		AfterCommit: func() error {
			if !lost {
				lost = true
				return errors.New("the process dies here")
			}
			return nil
		}})
	r.await(t, "redelivery", func() bool { return len(r.handled) == 2 })
}

func TestPublishingTwiceIsOneMessage(t *testing.T) {
	t.Parallel()

	_, b := server(t)
	e := event(uuid.New(), "once")
	for range 2 {
		if err := b.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.js.Stream(t.Context(), EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 1 {
		t.Errorf("%d messages in the stream", info.State.Msgs)
	}
}

func TestAConsumerOutlivesTheServer(t *testing.T) {
	t.Parallel()

	n, b := server(t)
	r, tenant := newRecorder(), uuid.New()
	consume(t, b, Consumer{Durable: "c", Bury: r.bury, Handle: func(_ context.Context, batch []Message) error {
		r.note(func() {
			for _, m := range batch {
				r.handled = append(r.handled, m.Event.GetType())
			}
		})
		return nil
	}})
	if err := b.Publish(t.Context(), event(tenant, "before")); err != nil {
		t.Fatal(err)
	}
	r.await(t, "the first event", func() bool { return len(r.handled) == 1 })

	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	after := event(tenant, "after")
	for b.Publish(t.Context(), after) != nil {
		if t.Context().Err() != nil {
			t.Fatal("no connection after the restart")
		}
	}
	r.await(t, "the event after the restart", func() bool { return slices.Contains(r.handled, "after") })
}

func TestWatchingConfigurationStartsWithTheNewestOfEachTenant(t *testing.T) {
	t.Parallel()

	_, b := server(t)
	first, second := uuid.New(), uuid.New()
	change := func(tenant uuid.UUID, version int64) *busv1.Event {
		e := event(tenant, "policies")
		e.Stream, e.ConfigVersion = busv1.Stream_STREAM_CONFIG, version
		return e
	}
	for _, e := range []*busv1.Event{change(first, 1), change(first, 2), change(second, 7)} {
		if err := b.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan [2]any, 16)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.WatchConfig(ctx, "policies", func(_ context.Context, e *busv1.Event) error {
			got <- [2]any{e.GetTenantId(), e.GetConfigVersion()}
			return nil
		})
	}()
	defer func() { stop(); <-ended }()

	if a, b := <-got, <-got; a != [2]any{first.String(), int64(2)} || b != [2]any{second.String(), int64(7)} {
		t.Errorf("watch starts with %v, %v", a, b)
	}
	if err := b.Publish(t.Context(), change(first, 3)); err != nil {
		t.Fatal(err)
	}
	if next := <-got; next != [2]any{first.String(), int64(3)} {
		t.Errorf("then comes %v", next)
	}
}

func TestWhatCallersNameFreelyIsOneSubjectToken(t *testing.T) {
	t.Parallel()

	tenant := uuid.NewString()
	for name, want := range map[string]string{
		"llm_call": "llm_call", "": "_", "a.b": "a_b", "x > *": "x____", "ünï": "_n_",
	} {
		e := &busv1.Event{TenantId: tenant, Type: name}
		if got := Subject(e); got != eventsPrefix+"."+tenant+"."+want {
			t.Errorf("Subject(%q) = %s", name, got)
		}
	}
}

// What nobody needs any more must not fill the stream until it refuses.
func TestAnEventLeavesTheStreamOnceEveryConsumerHasIt(t *testing.T) {
	t.Parallel()

	_, b := server(t)
	r := newRecorder()
	if err := b.Publish(t.Context(), event(uuid.New(), "passing")); err != nil {
		t.Fatal(err)
	}
	left := func() uint64 {
		s, err := b.js.Stream(t.Context(), EventsStream)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Msgs
	}
	for i, name := range standing {
		if left() != 1 {
			t.Errorf("gone after %d of %d consumers", i, len(standing))
		}
		consume(t, b, Consumer{Durable: name, Bury: r.bury, Handle: func(context.Context, []Message) error {
			r.note(func() { r.handled = append(r.handled, name) })
			return nil
		}})
		r.await(t, name, func() bool { return slices.Contains(r.handled, name) })
	}
	for left() != 0 { // the ack is on its way
		if t.Context().Err() != nil {
			t.Fatal("the event is still in the stream")
		}
	}
}

// An event that is taken while a consumer is still missing would be dropped, and
// for two minutes no repetition of it would be taken for a new one.
func TestNoEventIsTakenBeforeAllItsConsumersAreThere(t *testing.T) {
	t.Parallel()

	n, err := devstack.StartNATS(devstack.NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop() })
	b := connect(t, n)
	early := event(uuid.New(), "early")
	if err := b.openEvents(t.Context(), streams()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.PublishMsg(t.Context(), mustMessage(t, early)); err == nil {
		t.Fatal("an event was taken by a stream that is not open yet")
	}

	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), early); err != nil {
		t.Fatal(err)
	}
	s, err := b.js.Stream(t.Context(), EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().State; got.Msgs != 1 || got.Consumers != len(standing) {
		t.Errorf("the stream has %d messages and %d consumers", got.Msgs, got.Consumers)
	}
}

func mustMessage(t *testing.T, e *busv1.Event) *nats.Msg {
	t.Helper()
	msg, err := message(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}
