package journal

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Recorder makes facts durable, all of them or none. A fact that is recorded
// already, in whatever batch, is left out with everything that follows from it.
type Recorder interface {
	Record(ctx context.Context, facts []Fact) (Receipt, error)
}

// Receipt says what a batch added.
type Receipt struct {
	Fresh []Fact
	Heads map[uuid.UUID]int64 // the last position of each tenant that got facts
}

// Event is a fact with its places in the journal.
type Event struct {
	Position   int64 // within the tenant, from 1, no gaps
	StoredAt   time.Time
	ID         uuid.UUID
	Sequence   int64 // within the execution, from 1, no gaps
	Type       string
	OccurredAt time.Time

	ExecutionID, EnvelopeID, WorkflowID string
	TraceID, SpanID                     string

	Payload []byte // a JSON object
	Labels  map[string]string
}

// Filter selects events; zero fields select all.
type Filter struct {
	Execution, Workflow, Type string
	From, To                  time.Time // of occurring; To is exclusive
	Labels                    map[string]string
}

// Execution is what is known of one execution as a whole.
type Execution struct {
	Events         int64
	Started, Ended time.Time // zero: it has not
}

// Totals count a tenant's events.
type Totals struct {
	Events, Bytes  int64
	ByType         map[string]int64
	Oldest, Newest time.Time // by when they happened; zero: there are none
}

// Reader reads what is recorded. Positions of a tenant become visible in order:
// who has seen one has been able to see every lower one.
type Reader interface {
	// After returns the first events behind position after, up to position upTo.
	After(ctx context.Context, tenant uuid.UUID, f Filter, after, upTo int64, limit int) ([]Event, error)
	// Before returns the last events in front of position before, latest first.
	Before(ctx context.Context, tenant uuid.UUID, f Filter, before int64, limit int) ([]Event, error)
	// Count counts matching events, but no further than limit.
	Count(ctx context.Context, tenant uuid.UUID, f Filter, limit int) (int64, error)
	// OfExecution returns the first events of one behind sequence number after.
	OfExecution(ctx context.Context, tenant uuid.UUID, f Filter, after int64, limit int) ([]Event, error)
	// Execution returns the zero Execution for one without events.
	Execution(ctx context.Context, tenant uuid.UUID, key string) (Execution, error)
	Totals(ctx context.Context, tenant uuid.UUID) (Totals, error)
	// Head returns the last position of the tenant; 0: it has no events.
	Head(ctx context.Context, tenant uuid.UUID) (int64, error)
	// StoredBefore returns the last position stored before t; 0: none.
	StoredBefore(ctx context.Context, tenant uuid.UUID, t time.Time) (int64, error)
}
