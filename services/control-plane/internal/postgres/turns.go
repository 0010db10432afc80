package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// maxWaiting is how many changes of one tenant may wait in this process.
const maxWaiting = 256

// turns lets one change of a tenant at a time reach the database. They would
// queue there anyway, on the lock of the bundle; but each with a connection in
// hand, so that one busy tenant could take them all from the others.
type turns struct {
	mu     sync.Mutex // guards queues
	queues map[uuid.UUID]*queue
}

type queue struct {
	turn  chan struct{} // holds one token while nobody has the turn
	users int           // guarded by turns.mu
}

// take waits for the tenant's turn, which the caller ends by calling done.
func (t *turns) take(ctx context.Context, tenant uuid.UUID) (done func(), err error) {
	q, err := t.join(tenant)
	if err != nil {
		return nil, err
	}
	select {
	case <-q.turn:
		return func() {
			q.turn <- struct{}{}
			t.leave(tenant, q)
		}, nil
	case <-ctx.Done():
		t.leave(tenant, q)
		return nil, ctx.Err()
	}
}

func (t *turns) join(tenant uuid.UUID) (*queue, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queues[tenant]
	if q == nil {
		if t.queues == nil {
			t.queues = make(map[uuid.UUID]*queue)
		}
		q = &queue{turn: make(chan struct{}, 1)}
		q.turn <- struct{}{}
		t.queues[tenant] = q
	}
	if q.users >= maxWaiting {
		return nil, fault.New(fault.Down, "too many changes to this tenant's configuration at once").
			WithReason("CHANGES_QUEUE_FULL").WithRetry(time.Second)
	}
	q.users++
	return q, nil
}

func (t *turns) leave(tenant uuid.UUID, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(t.queues, tenant)
	}
}
