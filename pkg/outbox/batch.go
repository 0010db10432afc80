package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/outboxdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// batch is a set of leased rows and what became of each.
type batch struct {
	rows   []outboxdb.ClaimRow
	events []*busv1.Event
	errs   []error

	sent, again, dead []int // indexes of rows
}

func newBatch(rows []outboxdb.ClaimRow) *batch {
	return &batch{rows: rows, errs: make([]error, len(rows))}
}

func (b *batch) publish(ctx context.Context, to Publisher, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var readable []int
	for i, row := range b.rows {
		e, err := decode(row)
		if err != nil {
			b.errs[i] = err
			b.dead = append(b.dead, i)
			continue
		}
		readable = append(readable, i)
		b.events = append(b.events, e)
	}
	if len(readable) == 0 {
		return
	}
	for j, err := range to.PublishAll(ctx, b.events) {
		i := readable[j]
		b.errs[i] = err
		switch {
		case err == nil:
			b.sent = append(b.sent, i)
		case hopeless(err):
			b.dead = append(b.dead, i)
		default:
			b.again = append(b.again, i)
		}
	}
}

// hopeless reports that the event itself is what the bus refuses.
func hopeless(err error) bool {
	return errors.Is(err, fault.Invalid) || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject)
}

// mark records all outcomes in one transaction.
func (b *batch) mark(ctx context.Context, d *db.DB, tenants []uuid.UUID) error {
	return d.WithTenants(ctx, tenants, func(ctx context.Context, tx db.Tx) error {
		q := outboxdb.New(tx)
		if len(b.sent) > 0 {
			owners, ids := b.keys(b.sent)
			if _, err := q.MarkSent(ctx, outboxdb.MarkSentParams{Tenants: owners, EventIds: ids}); err != nil {
				return err
			}
		}
		if len(b.again) > 0 {
			owners, ids := b.keys(b.again)
			if err := q.Release(ctx, outboxdb.ReleaseParams{Tenants: owners, EventIds: ids, Errors: b.texts(b.again)}); err != nil {
				return err
			}
		}
		for _, i := range b.dead {
			if err := b.bury(ctx, q, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// bury keeps a row that can never be published where people look for such.
func (b *batch) bury(ctx context.Context, q *outboxdb.Queries, i int) error {
	row, reason := b.rows[i], clean(b.errs[i].Error())
	err := q.Bury(ctx, outboxdb.BuryParams{
		TenantID: row.TenantID, ID: uuid.Must(uuid.NewV7()), Consumer: relayName, EventID: &row.EventID,
		Subject: "outbox", Event: row.Event, Headers: []byte("{}"), Error: reason, Deliveries: 1,
	})
	if err != nil {
		return err
	}
	return q.MarkDead(ctx, outboxdb.MarkDeadParams{TenantID: row.TenantID, EventID: row.EventID, Error: &reason})
}

// relayName is who buries what never left; the reconciler's SQL knows it.
const relayName = "relay"

func (b *batch) keys(indexes []int) (tenants, events []uuid.UUID) {
	for _, i := range indexes {
		tenants = append(tenants, b.rows[i].TenantID)
		events = append(events, b.rows[i].EventID)
	}
	return tenants, events
}

func (b *batch) texts(indexes []int) (texts []string) {
	for _, i := range indexes {
		texts = append(texts, clean(b.errs[i].Error()))
	}
	return texts
}

// failure is the reason to slow down: what has to be tried again.
func (b *batch) failure() error {
	if len(b.again) == 0 {
		return nil
	}
	return fmt.Errorf("publish %d of %d events: %w", len(b.again), len(b.rows), b.errs[b.again[0]])
}

func (b *batch) report(ctx context.Context, log *slog.Logger, metrics relayMetrics, claimed time.Time) {
	for _, i := range b.sent {
		metrics.delay.Record(ctx, max(0, claimed.Sub(b.rows[i].CreatedAt).Seconds()))
	}
	metrics.sent.Add(ctx, int64(len(b.sent)))
	metrics.failed.Add(ctx, int64(len(b.again)))
	metrics.dead.Add(ctx, int64(len(b.dead)))
	for _, i := range b.dead {
		log.LogAttrs(ctx, slog.LevelError, "event can never be published",
			slog.String("event_id", b.rows[i].EventID.String()), slog.Any("error", b.errs[i]))
	}
}

// clean makes an error's text fit for a text column: valid and not endless.
func clean(s string) string {
	const most = 2000
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "?")
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}
