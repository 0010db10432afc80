package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/outboxdb"

	"github.com/fulcrum-io/fulcrum/pkg/bus"
)

// Key names one event of one tenant.
type Key struct{ Tenant, Event uuid.UUID }

// Inbox notes in tx that consumer takes in these events of tenant, and returns
// true for those it had not taken in before. Write the effect of exactly those,
// in the same tx.
func Inbox(ctx context.Context, tx db.Tx, consumer string, tenant uuid.UUID, events []uuid.UUID) (map[uuid.UUID]bool, error) {
	keys := make([]Key, len(events))
	for i, e := range events {
		keys[i] = Key{tenant, e}
	}
	taken, err := InboxAll(ctx, tx, consumer, keys)
	if err != nil {
		return nil, err
	}
	fresh := make(map[uuid.UUID]bool, len(taken))
	for k := range taken {
		fresh[k.Event] = true
	}
	return fresh, nil
}

// InboxAll is Inbox for a batch that spans tenants, in a transaction that sees
// them all.
func InboxAll(ctx context.Context, tx db.Tx, consumer string, keys []Key) (map[Key]bool, error) {
	if len(keys) == 0 {
		return map[Key]bool{}, nil
	}
	// One order for all, or two consumers with the same events would deadlock.
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b Key) int {
		if c := bytes.Compare(a.Tenant[:], b.Tenant[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.Event[:], b.Event[:])
	})
	p := outboxdb.TakeInParams{Consumer: consumer}
	for _, k := range slices.Compact(keys) {
		p.Tenants = append(p.Tenants, k.Tenant)
		p.EventIds = append(p.EventIds, k.Event)
	}
	rows, err := outboxdb.New(tx).TakeIn(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("inbox of %s: %w", consumer, err)
	}
	fresh := make(map[Key]bool, len(rows))
	for _, r := range rows {
		fresh[Key{r.TenantID, r.EventID}] = true
	}
	return fresh, nil
}

// Bury returns what a consumer does with a message it could not take in: keep it
// in fulcrum.dead_letters until somebody replays or drops it. A message whose
// subject names no tenant has nobody to be kept for; the bus logs it.
func Bury(d *db.DB) func(context.Context, bus.Dead) error {
	return func(ctx context.Context, dead bus.Dead) error {
		tenant, err := uuid.Parse(dead.Tenant)
		if err != nil || tenant == uuid.Nil {
			return nil
		}
		headers, err := json.Marshal(dead.Headers)
		if err != nil || dead.Headers == nil {
			headers = []byte("{}")
		}
		p := outboxdb.BuryParams{
			TenantID: tenant, ID: uuid.Must(uuid.NewV7()), Consumer: dead.Consumer, Subject: dead.Subject,
			Event: append([]byte{}, dead.Data...), Headers: headers, Error: clean(dead.Err.Error()), Deliveries: int32(dead.Deliveries),
		}
		if id, err := uuid.Parse(dead.Event.GetEventId()); err == nil {
			p.EventID = &id
		}
		return d.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
			return outboxdb.New(tx).Bury(ctx, p)
		})
	}
}
