package webhook

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// memory is a Queue on the clock of a test.
type memory struct {
	patience Patience

	mu       sync.Mutex // guards the rest
	messages map[uuid.UUID]*entry
	health   map[uuid.UUID]Health
}

type entry struct {
	Message
	next, claimed time.Time
	over          bool
	at            []time.Time // of the attempts
}

func newMemory(messages ...Message) *memory {
	q := &memory{patience: DefaultPatience(), messages: map[uuid.UUID]*entry{}, health: map[uuid.UUID]Health{}}
	for _, m := range messages {
		m.CreatedAt = time.Now()
		q.messages[m.Event] = &entry{Message: m}
	}
	return q
}

func (q *memory) due(e *entry) bool {
	now := time.Now()
	return !e.over && q.health[e.Endpoint].Disabled == "" && !e.next.After(now) && !e.claimed.After(now)
}

func (q *memory) DueTenants(_ context.Context, after uuid.UUID, limit int) ([]uuid.UUID, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := map[uuid.UUID]bool{}
	for _, e := range q.messages {
		if q.due(e) && cmp.Compare(e.Tenant.String(), after.String()) > 0 {
			all[e.Tenant] = true
		}
	}
	list := slices.SortedFunc(maps.Keys(all), func(a, b uuid.UUID) int { return cmp.Compare(a.String(), b.String()) })
	return list[:min(limit, len(list))], nil
}

func (q *memory) Claim(_ context.Context, tenant uuid.UUID, lease time.Duration, each, limit int, busy []uuid.UUID) (out []Message, _ error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	share := map[uuid.UUID]int{}
	for _, e := range q.messages {
		if e.Tenant != tenant || !q.due(e) || slices.Contains(busy, e.Endpoint) || share[e.Endpoint] == each || len(out) == limit {
			continue
		}
		share[e.Endpoint]++
		e.Attempt++
		e.claimed = time.Now().Add(lease)
		e.at = append(e.at, time.Now())
		out = append(out, e.Message)
	}
	return out, nil
}

func (q *memory) Secrets(context.Context, uuid.UUID, uuid.UUID) ([]secret.Secret, error) {
	return []secret.Secret{NewSecret()}, nil
}

func (q *memory) Finish(_ context.Context, m Message, r Result) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.patience.Judge(m, r, q.health[m.Endpoint], time.Now())
	q.health[m.Endpoint] = out.Health
	e := q.messages[m.Event]
	e.over, e.next, e.claimed = out.Over, time.Now().Add(out.Wait), time.Time{}
	return nil
}

func (q *memory) Forget(context.Context) error { return nil }

func (q *memory) left(tenant uuid.UUID) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.messages {
		if e.Tenant == tenant && !e.over {
			n++
		}
	}
	return n
}

// post answers by URL: "dead" never, "down" with an error, others at once.
type post struct{}

func (post) Send(ctx context.Context, to, _ string, _ []byte, _ []secret.Secret) Result {
	switch to {
	case "dead":
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		return Result{Error: "it did not answer in time"}
	case "down":
		return Result{Status: 503, Error: "it answered with status 503"}
	}
	return Result{Status: 200}
}

func run(t *testing.T, q Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	d := NewDispatcher(q, post{}, slog.New(slog.DiscardHandler))
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func message(tenant, endpoint uuid.UUID, to string) Message {
	return Message{Tenant: tenant, Endpoint: endpoint, Event: uuid.New(), Type: TestType, URL: to}
}

// A tenant whose endpoints answer never, however much waits for them, does not
// make another's message wait: not by a second, while the dead take ten.
func TestADeadEndpointSlowsNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all []Message
		for range 50 {
			tenant, endpoint := uuid.New(), uuid.New()
			for range 40 {
				all = append(all, message(tenant, endpoint, "dead"))
			}
		}
		live, other := uuid.New(), uuid.New()
		ok, dead := uuid.New(), uuid.New()
		for range 20 {
			all = append(all, message(live, ok, "live"))
			all = append(all, message(other, dead, "dead"), message(other, ok, "live"))
		}
		q := newMemory(all...)
		defer run(t, q)()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if n := q.left(live); n > 0 {
			t.Errorf("%d messages of a live endpoint wait", n)
		}
		if n := q.left(other); n != 20 {
			t.Errorf("the live endpoint beside a dead one of the same tenant: %d wait, want the 20 of the dead one", n)
		}
	})
}

// An endpoint that is down is tried for the time that patience says, with waits
// that grow, and then disabled.
func TestAnEndpointThatIsDownIsTriedWithGrowingWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := message(uuid.New(), uuid.New(), "down")
		q := newMemory(m)
		defer run(t, q)()
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		q.mu.Lock()
		defer q.mu.Unlock()
		at := q.messages[m.Event].at
		if len(at) < 8 || len(at) > 14 || q.health[m.Endpoint].Disabled == "" {
			t.Fatalf("%d attempts, %+v", len(at), q.health[m.Endpoint])
		}
		for i := 2; i < len(at); i++ {
			before, after := at[i-1].Sub(at[i-2]), at[i].Sub(at[i-1])
			if after < before && before < 8*time.Hour {
				t.Errorf("the wait before attempt %d is %s, after one of %s", i+1, after, before)
			}
		}
	})
}

// forgetful is a Queue whose first process dies between the answer and the note
// of it.
type forgetful struct {
	*memory
	died bool
}

func (q *forgetful) Finish(ctx context.Context, m Message, r Result) error {
	if !q.died {
		q.died = true
		return errors.New("nobody is there any more")
	}
	return q.memory.Finish(ctx, m, r)
}

func TestWhatNobodyNotedIsSentAgainAfterItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := message(uuid.New(), uuid.New(), "live")
		q := &forgetful{memory: newMemory(m)}
		defer run(t, q)()
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if q.left(m.Tenant) != 1 {
			t.Fatal("it is over before anybody noted so")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if at := q.messages[m.Event].at; q.left(m.Tenant) != 0 || len(at) != 2 {
			t.Errorf("attempts: %v", at)
		}
	})
}
