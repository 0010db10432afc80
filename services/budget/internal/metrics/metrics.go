// Package metrics counts what an operator of the budget service watches.
package metrics

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Metrics are the instruments. Safe for concurrent use.
type Metrics struct {
	ops, flush  metric.Float64Histogram
	fast        metric.Int64Counter
	answers     metric.Int64Counter
	granted     metric.MeasurementOption // made once: most answers are
	expired     metric.Int64Counter
	overruns    metric.Int64Counter
	differences metric.Int64Gauge
	unchecked   metric.Int64Gauge
	checked     metric.Int64Counter

	mu    sync.Mutex // guards usage
	usage map[ledger.WindowKey]usage
}

// usage is what a budget's newest window has spent.
type usage struct {
	spent, held, limit float64
	start              int64
}

// mostBudgets bounds the series of fulcrum_budget_usage_dollars.
const mostBudgets = 2000

// New makes the instruments on m. queue says how many operations wait.
func New(m metric.Meter, queue func() int) (*Metrics, error) {
	out := &Metrics{granted: outcome("granted"), usage: make(map[ledger.WindowKey]usage)}
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	var err error

	out.ops, err = m.Float64Histogram("fulcrum_budget_batch_operations", metric.WithDescription("Operations in one ledger transaction."),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
	note(err)
	out.flush, err = m.Float64Histogram("fulcrum_budget_flush_seconds", metric.WithDescription("Time of one ledger transaction."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4, 8))
	note(err)
	out.fast, err = m.Int64Counter("fulcrum_budget_fast_total", metric.WithDescription("Batches decided on balances in memory: whether that held or the batch had to look first."))
	note(err)
	out.answers, err = m.Int64Counter("fulcrum_budget_reserve_total", metric.WithDescription("Answers to Reserve, by outcome: granted or the reason of the refusal."))
	note(err)
	out.expired, err = m.Int64Counter("fulcrum_budget_holds_expired_total", metric.WithDescription("Holds that nobody settled in time."))
	note(err)
	out.overruns, err = m.Int64Counter("fulcrum_budget_overruns_total", metric.WithDescription("Charges beyond their hold."))
	note(err)
	out.differences, err = m.Int64Gauge("fulcrum_budget_ledger_differences", metric.WithDescription("Counters that are not the sum of their entries, as of the last recount and what was found since. Anything but 0 is a defect."))
	note(err)
	out.unchecked, err = m.Int64Gauge("fulcrum_budget_ledger_unchecked", metric.WithDescription("Tenants whose ledger the last round of the check could not check."))
	note(err)
	out.checked, err = m.Int64Counter("fulcrum_budget_windows_checked_total", metric.WithDescription("Windows compared with their entries."))
	note(err)
	_, err = m.Int64ObservableGauge("fulcrum_budget_queue_depth", metric.WithDescription("Operations waiting for the next ledger transaction."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(queue()))
			return nil
		}))
	note(err)
	_, err = m.Float64ObservableGauge("fulcrum_budget_usage_dollars", metric.WithDescription("Spent in the current window of each budget this instance has charged."),
		metric.WithFloat64Callback(out.observe))
	note(err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// An alert on an increase does not see the step from absent to one.
	for _, c := range []metric.Int64Counter{out.expired, out.overruns, out.checked} {
		c.Add(context.Background(), 0)
	}
	out.differences.Record(context.Background(), 0)
	out.unchecked.Record(context.Background(), 0)
	return out, nil
}

// Flushed records one ledger transaction.
func (m *Metrics) Flushed(ops int, took time.Duration, err error) {
	ctx := context.Background()
	m.ops.Record(ctx, float64(ops))
	m.flush.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.Bool("failed", err != nil)))
}

// Fast records whether a batch that was decided on balances in memory held.
func (m *Metrics) Fast(worked bool) {
	m.fast.Add(context.Background(), 1, metric.WithAttributes(attribute.Bool("worked", worked)))
}

// Reserved records an answer to Reserve.
func (m *Metrics) Reserved(ctx context.Context, a ledger.Answer) {
	if a.Granted {
		m.answers.Add(ctx, 1, m.granted)
		return
	}
	m.answers.Add(ctx, 1, outcome(a.Reason))
}

func outcome(is string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", is)))
}

// Settled records a charge.
func (m *Metrics) Settled(ctx context.Context, a ledger.Answer) {
	if !a.Overrun.IsZero() {
		m.overruns.Add(ctx, 1)
	}
}

// Swept records holds that were given back because their time was over.
func (m *Metrics) Swept(ctx context.Context, holds int) { m.expired.Add(ctx, int64(holds)) }

// Checked records one round of the checker.
func (m *Metrics) Checked(ctx context.Context, windows, differences, unchecked int) {
	m.checked.Add(ctx, int64(windows))
	m.differences.Record(ctx, int64(differences))
	m.unchecked.Record(ctx, int64(unchecked))
}

// Observe takes note of windows that changed. Limits of envelopes are left out:
// there is no end to them.
func (m *Metrics) Observe(windows []*ledger.Window) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range windows {
		if catalog.OfEnvelope(w.Budget) {
			continue
		}
		key := w.WindowKey
		key.Start = 0 // one series a budget: its newest window
		had, known := m.usage[key]
		if known && had.start > w.Start || !known && len(m.usage) >= mostBudgets {
			continue
		}
		m.usage[key] = usage{dollars(w.Spent), dollars(w.Held), dollars(w.Limit), w.Start}
	}
}

func (m *Metrics) observe(_ context.Context, o metric.Float64Observer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, u := range m.usage {
		for state, n := range map[string]float64{"spent": u.spent, "held": u.held, "limit": u.limit} {
			o.Observe(n, metric.WithAttributes(
				attribute.String("tenant_id", key.Tenant.String()), attribute.String("budget_id", key.Budget), attribute.String("state", state)))
		}
	}
	return nil
}

func dollars(a amount.Amounts) float64 { return money.Nano(a[amount.Cost]).USD() }
