package events_test

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/events"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/postgres"
)

var quiet = slog.New(slog.DiscardHandler)

// line is a journal at the end of a JetStream of its own.
type line struct {
	t      *testing.T
	db     *dbtest.Database
	server *devstack.NATS
	bus    *bus.Bus
	js     jetstream.JetStream // a plain client, for what our own would not send
	intake *events.Intake

	mu         sync.Mutex // guards what follows
	heads      map[uuid.UUID]int64
	dead       []bus.Dead
	advisories []bus.Advisory
	commits    int
	changed    chan struct{} // holds one: something above has changed
}

func build(t *testing.T) *line {
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
	plain, err := nats.Connect(n.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.Close)
	js, err := jetstream.New(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}

	l := &line{t: t, db: dbtest.New(t), server: n, bus: b, js: js, heads: map[uuid.UUID]int64{}, changed: make(chan struct{}, 1)}
	meter, err := events.NewMeter(noMetrics)
	if err != nil {
		t.Fatal(err)
	}
	keep := outbox.Bury(l.db.DB)
	l.intake = &events.Intake{
		Recorder: postgres.New(l.db.DB, events.Name), Meter: meter, Log: quiet,
		Stored: func(heads map[uuid.UUID]int64) {
			l.note(func() {
				for tenant, position := range heads {
					l.heads[tenant] = max(l.heads[tenant], position)
				}
			})
		},
		Bury: func(ctx context.Context, d bus.Dead) error {
			err := keep(ctx, d)
			l.note(func() { l.dead = append(l.dead, d) })
			return err
		},
	}
	return l
}

func (l *line) note(do func()) {
	l.mu.Lock()
	do()
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// await waits until done holds, or the test's patience ends.
func (l *line) await(what string, done func() bool) {
	l.t.Helper()
	limit := time.After(time.Minute)
	for {
		l.mu.Lock()
		ok := done()
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.changed:
		case <-limit:
			l.t.Fatalf("not within a minute: %s; heads %v, dead %v", what, l.heads, l.dead)
		}
	}
}

func (l *line) awaitHead(tenant uuid.UUID, position int64) {
	l.t.Helper()
	l.await("events stored", func() bool { return l.heads[tenant] >= position })
}

// consume takes in until the test ends; change adapts the consumer first.
func (l *line) consume(change func(*bus.Consumer)) (stop func()) {
	c := l.intake.Consumer(64)
	c.AckWait, c.Retry = time.Second, 10*time.Millisecond
	if change != nil {
		change(&c)
	}
	return l.run(func(ctx context.Context) error { return l.bus.Consume(ctx, c) })
}

// run runs task until stop is called or the test ends.
func (l *line) run(task func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- task(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(stop)
	return stop
}

// publish publishes past our own client: without a message id, as if the dedupe
// window had passed, and whatever it is.
func (l *line) publish(subject string, data []byte) {
	l.t.Helper()
	if _, err := l.js.Publish(l.t.Context(), subject, data); err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) publishEvents(es ...*busv1.Event) {
	l.t.Helper()
	for _, e := range es {
		data, err := proto.Marshal(e)
		if err != nil {
			l.t.Fatal(err)
		}
		l.publish(bus.Subject(e), data)
	}
}

// append commits events to the outbox.
func (l *line) append(es ...*busv1.Event) {
	l.t.Helper()
	err := l.db.DB.WithTenant(l.t.Context(), uuid.MustParse(es[0].GetTenantId()), func(ctx context.Context, tx db.Tx) error {
		return outbox.Append(ctx, tx, es...)
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) count(what string, want int64, query string, args ...any) {
	l.t.Helper()
	if got := dbtest.Count(l.t, l.db, query, args...); got != want {
		l.t.Errorf("%s: %d, want %d", what, got, want)
	}
}

func newEvent(tenant uuid.UUID, kind, execution string) *busv1.Event {
	return &busv1.Event{
		EventId: uuid.Must(uuid.NewV7()).String(), TenantId: tenant.String(), Stream: busv1.Stream_STREAM_EVENTS, Type: kind,
		Origin: busv1.Origin_ORIGIN_SYSTEM, Writer: "gateway", OccurredAt: timestamppb.Now(), ExecutionId: execution, AgentId: "agent",
	}
}
