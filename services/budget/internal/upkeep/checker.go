package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Counters knows the ledger's counters and what its entries add up to.
type Counters interface {
	// WithWindows returns tenants after the given one, in order, that have a ledger.
	WithWindows(ctx context.Context, after uuid.UUID, most int) ([]uuid.UUID, error)
	// Differences compares, for the windows of a tenant that changed since a
	// moment, each counter with the sum of its entries in one snapshot, and
	// returns how many windows it looked at and where the two differ. A recount
	// looks at every window and adds up every entry anew.
	Differences(ctx context.Context, tenant uuid.UUID, since time.Time, recount bool) (windows int, diffs []ledger.Difference, err error)
	// Report says to the rest of Fulcrum that counters are wrong, once for each
	// difference, whichever instance finds it, and returns those it told of. After
	// a recount what was not found again is over.
	Report(ctx context.Context, tenant uuid.UUID, diffs []ledger.Difference, recount bool) ([]ledger.Difference, error)
}

// Checker compares counters with entries, over and over. A difference means
// that something besides the ledger has written its tables, or a defect: it is
// reported and never repaired by itself.
type Checker struct {
	Counters Counters
	Log      *slog.Logger
	Every    time.Duration
	Recount  time.Duration // between rounds that add up every entry anew; 0: only the first does
	// Checked is told of every round, if not nil: how many windows it looked at, how
	// many counters are off, as of the last recount and what was found since, and how
	// many tenants' ledgers it could not check.
	Checked func(ctx context.Context, windows, differences, unchecked int)

	last      time.Time // when the last round began
	recounted time.Time // when the last recount began
	off       map[counter]bool
	failed    map[uuid.UUID]attempt // tenants whose check did not end: the next round makes up for it
}

// attempt is what a check was to look at.
type attempt struct {
	since   time.Time
	recount bool
}

// counter names one counter of the ledger.
type counter struct {
	window  ledger.WindowKey
	account ledger.Account
	unit    amount.Unit
}

// Run checks until ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	return every(ctx, c.Every, c.Log, "check of the ledger", c.Check)
}

// overlap is how much longer ago than the last round a change may have been
// made and be looked at again: clocks differ, transactions take time.
const overlap = time.Minute

// Check makes one round over everything that changed since the last one, or
// over everything when it is time to: an old entry that somebody changes is in
// a window that nobody touches.
func (c *Checker) Check(ctx context.Context) error {
	begin := time.Now()
	round := attempt{recount: c.recounted.IsZero() || c.Recount > 0 && begin.Sub(c.recounted) >= c.Recount}
	if !c.last.IsZero() {
		round.since = c.last.Add(-overlap)
	}
	var after uuid.UUID
	windows := 0
	off := make(map[counter]bool) // a round does not look again at what nobody touches
	maps.Copy(off, c.off)
	failed, there := make(map[uuid.UUID]attempt), make(map[uuid.UUID]bool)
	var errs []error
	for {
		tenants, err := c.Counters.WithWindows(ctx, after, pageOfTenants)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, tenant := range tenants {
			after, there[tenant] = tenant, true
			this := c.failed[tenant].and(round)
			n, err := c.tenant(ctx, tenant, this, off)
			windows += n
			if ctx.Err() != nil {
				return err
			}
			if err != nil { // one tenant's ledger keeps nobody else's from being checked
				failed[tenant] = this
				errs = append(errs, fmt.Errorf("tenant %s: %w", tenant, err))
			}
		}
		if len(tenants) < pageOfTenants {
			break
		}
	}
	maps.DeleteFunc(off, func(k counter, _ bool) bool { return !there[k.window.Tenant] })
	c.last, c.off, c.failed = begin, off, failed
	if round.recount {
		c.recounted = begin
	}
	if c.Checked != nil {
		c.Checked(ctx, windows, len(off), len(failed))
	}
	return errors.Join(errs...)
}

// and is what to look at for both: the zero attempt looks at nothing.
func (a attempt) and(b attempt) attempt {
	if a != (attempt{}) && a.since.Before(b.since) {
		b.since = a.since
	}
	b.recount = a.recount || b.recount
	if b.recount { // that looks at everything
		b.since = time.Time{}
	}
	return b
}

// tenant checks one tenant's ledger, and notes in off what differs. What it found
// before it failed is told, too.
func (c *Checker) tenant(ctx context.Context, tenant uuid.UUID, a attempt, off map[counter]bool) (windows int, err error) {
	windows, diffs, err := c.Counters.Differences(ctx, tenant, a.since, a.recount)
	if err == nil && a.recount {
		maps.DeleteFunc(off, func(k counter, _ bool) bool { return k.window.Tenant == tenant })
	}
	for _, d := range diffs {
		off[counter{d.Window, d.Account, d.Unit}] = true
	}
	return windows, errors.Join(err, c.report(ctx, tenant, diffs, err == nil && a.recount))
}

// report tells of what is new.
func (c *Checker) report(ctx context.Context, tenant uuid.UUID, diffs []ledger.Difference, recount bool) error {
	if len(diffs) == 0 && !recount {
		return nil
	}
	fresh, err := c.Counters.Report(ctx, tenant, diffs, recount)
	if err != nil {
		return err
	}
	for _, d := range fresh {
		c.Log.LogAttrs(ctx, slog.LevelError, "a counter of the ledger differs from its entries",
			slog.String("tenant", tenant.String()), slog.String("budget", d.Window.Budget), slog.Time("window_start", d.Window.StartTime()),
			slog.String("account", string(d.Account)), slog.String("unit", d.Unit.String()),
			slog.Int64("counter", d.Counter), slog.Int64("entries", d.Entries))
	}
	return nil
}
