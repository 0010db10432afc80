package credential

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Journal writes down what became of keys.
type Journal interface {
	// Touch notes that a key is in use.
	Touch(ctx context.Context, tenant uuid.UUID, keyID string) error
	// Refused records that a key of a tenant was shown and refused.
	Refused(ctx context.Context, k Stored, why string) error
}

// Notices tells a Journal about keys, beside the calls that use them and never
// in their way: each key at most once a minute, and what does not fit the queue
// is left out. Run must be running for anything to be written.
type Notices struct {
	journal Journal
	log     *slog.Logger
	queue   chan notice
	every   time.Duration

	mu   sync.Mutex // guards told
	told map[string]time.Time
}

type notice struct {
	key Stored
	why string // "" if the key was good
}

// NewNotices returns Notices to a journal.
func NewNotices(j Journal, log *slog.Logger) *Notices {
	return &Notices{journal: j, log: log, queue: make(chan notice, 256), every: time.Minute, told: make(map[string]time.Time)}
}

// note queues a notice unless there was one like it a moment ago.
func (n *Notices) note(k Stored, why string) {
	if n == nil {
		return
	}
	name := k.KeyID
	if why != "" {
		name += " refused"
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if now.Sub(n.told[name]) < n.every {
		return
	}
	select {
	case n.queue <- notice{k, why}:
	default:
		return
	}
	if len(n.told) > 10_000 { // old ones only make it larger
		clear(n.told)
	}
	n.told[name] = now
}

// Run writes notices down until ctx ends.
func (n *Notices) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-n.queue:
			n.write(ctx, x)
		}
	}
}

func (n *Notices) write(ctx context.Context, x notice) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var err error
	if x.why == "" {
		err = n.journal.Touch(ctx, x.key.Tenant, x.key.KeyID)
	} else {
		err = n.journal.Refused(ctx, x.key, x.why)
	}
	if err != nil && ctx.Err() == nil {
		n.log.LogAttrs(ctx, slog.LevelWarn, "use of a key not noted", slog.String("key_id", x.key.KeyID), slog.Any("err", err))
	}
}
