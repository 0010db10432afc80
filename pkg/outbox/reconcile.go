package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/outboxdb"
)

// Consumers must confirm every event before it leaves the outbox.
var consumers = []string{"event-processor", "audit"}

// Reconciler compares what was sent with what was taken in. One is enough;
// several do no harm.
type Reconciler struct {
	// Tunables, to be set before Run.
	Consumers []string             // who must confirm, default event-processor and audit
	Every     time.Duration        // default 15 s
	Patience  time.Duration        // sent this long ago and not confirmed is a gap, default 1 min
	Retention time.Duration        // how long confirmed rows are kept, default 5 min
	Memory    time.Duration        // how long the inbox remembers, longer than any stream, default 7 days
	OnReport  func(Report)         // told the outcome of each pass of Run
	Meter     metric.MeterProvider // nil: not measured

	db      *db.DB
	log     *slog.Logger
	relay   *Relay // nudged when rows become unsent again; may be nil
	metrics gapMetrics
}

// Report is one reconciliation.
type Report struct {
	Gap       int           // events not confirmed in time, now to be sent again
	Oldest    time.Duration // age of the oldest of them
	Deleted   int           // events confirmed by all
	Forgotten int           // old inbox rows
}

// NewReconciler returns a reconciler that is idle until Run. relay may be nil
// if the relay runs elsewhere.
func NewReconciler(d *db.DB, relay *Relay, log *slog.Logger) *Reconciler {
	none, _ := newGapMetrics(nil)
	return &Reconciler{
		Consumers: consumers, Every: 15 * time.Second, Patience: time.Minute,
		Retention: 5 * time.Minute, Memory: 7 * 24 * time.Hour,
		OnReport: func(Report) {}, db: d, log: log, relay: relay, metrics: none,
	}
}

// Run reconciles until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	var err error
	if r.metrics, err = newGapMetrics(r.Meter); err != nil {
		return fmt.Errorf("measure reconciler: %w", err)
	}
	for sleep(ctx, r.Every); ctx.Err() == nil; sleep(ctx, r.Every) {
		report, err := r.Reconcile(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "reconciliation incomplete", slog.Any("error", err))
			continue
		}
		r.OnReport(report)
	}
	return nil
}

// Reconcile makes one pass: what everybody confirmed is deleted after a while,
// what somebody did not confirm in time is sent again.
func (r *Reconciler) Reconcile(ctx context.Context) (Report, error) {
	var report Report
	err := r.pages(ctx, r.sent, func(tenants []uuid.UUID) error { return r.settle(ctx, tenants, &report) })
	if err == nil {
		err = r.pages(ctx, r.remembered, func(tenants []uuid.UUID) error { return r.forget(ctx, tenants, &report) })
	}
	if err != nil {
		return report, fmt.Errorf("reconcile outbox: %w", err)
	}
	if report.Gap > 0 {
		r.log.LogAttrs(ctx, slog.LevelWarn, "events were not confirmed and are sent again",
			slog.Int("events", report.Gap), slog.Duration("oldest", report.Oldest))
		if r.relay != nil {
			r.relay.Nudge()
		}
	}
	r.metrics.gap.Record(ctx, int64(report.Gap))
	r.metrics.oldest.Record(ctx, report.Oldest.Seconds())
	r.metrics.resent.Add(ctx, int64(report.Gap))
	r.metrics.deleted.Add(ctx, int64(report.Deleted))
	return report, nil
}

const (
	tenantsAtOnce = 64
	rowsAtOnce    = 1000 // so that no statement comes near the role's timeout
)

// pages calls do with all tenants that next finds, some at a time.
func (r *Reconciler) pages(ctx context.Context, next func(context.Context, uuid.UUID) ([]uuid.UUID, error), do func([]uuid.UUID) error) error {
	for after := uuid.Nil; ; {
		tenants, err := next(ctx, after)
		if err != nil {
			return err
		}
		if len(tenants) > 0 {
			if err := do(tenants); err != nil {
				return err
			}
			after = tenants[len(tenants)-1]
		}
		if len(tenants) < tenantsAtOnce {
			return nil
		}
	}
}

func (r *Reconciler) sent(ctx context.Context, after uuid.UUID) (tenants []uuid.UUID, err error) {
	err = r.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = outboxdb.New(tx).TenantsWithSent(ctx, outboxdb.TenantsWithSentParams{After: after, Lim: tenantsAtOnce})
		return err
	})
	return tenants, err
}

func (r *Reconciler) remembered(ctx context.Context, after uuid.UUID) (tenants []uuid.UUID, err error) {
	err = r.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = outboxdb.New(tx).TenantsWithInbox(ctx, outboxdb.TenantsWithInboxParams{After: after, Lim: tenantsAtOnce})
		return err
	})
	return tenants, err
}

func (r *Reconciler) settle(ctx context.Context, tenants []uuid.UUID, report *Report) error {
	for more := true; more; {
		err := r.db.OneTenants(ctx, tenants, func(ctx context.Context, tx db.Tx) error {
			n, err := outboxdb.New(tx).DeleteConfirmed(ctx, outboxdb.DeleteConfirmedParams{
				Tenants: tenants, Consumers: r.Consumers, OlderThanSeconds: r.Retention.Seconds(), Lim: rowsAtOnce,
			})
			report.Deleted += int(n)
			more = n == rowsAtOnce
			return err
		})
		if err != nil {
			return err
		}
	}
	return r.db.OneTenants(ctx, tenants, func(ctx context.Context, tx db.Tx) error {
		late, err := outboxdb.New(tx).ResendUnconfirmed(ctx, outboxdb.ResendUnconfirmedParams{
			Tenants: tenants, Consumers: r.Consumers, OlderThanSeconds: r.Patience.Seconds(), Lim: rowsAtOnce,
		})
		for _, row := range late {
			report.Oldest = max(report.Oldest, time.Since(row.CreatedAt))
		}
		report.Gap += len(late)
		return err
	})
}

func (r *Reconciler) forget(ctx context.Context, tenants []uuid.UUID, report *Report) error {
	return r.db.OneTenants(ctx, tenants, func(ctx context.Context, tx db.Tx) error {
		n, err := outboxdb.New(tx).PurgeInbox(ctx, outboxdb.PurgeInboxParams{
			Tenants: tenants, OlderThanSeconds: r.Memory.Seconds(), Lim: rowsAtOnce,
		})
		report.Forgotten += int(n)
		return err
	})
}
