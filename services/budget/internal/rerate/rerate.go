// Package rerate prices charges of the past anew: it reports what another price
// list would have charged, and corrects the charges if asked to.
package rerate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// Most is how many charges one re-rating looks at.
const Most = 20_000

// atOnce is how many corrections wait for the ledger together: enough to fill
// its batches, few beside what else queues there.
const atOnce = 128

// Request is what is asked for.
type Request struct {
	Tenant      uuid.UUID
	From, Until time.Time
	Model       string // empty: all
	Version     string // of the prices; empty: as they are now
	By          string // who asks, for the record
	Key         string // names a request to apply
}

// hash stands for what the key stands for.
func (r Request) hash() [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %d %q %q", r.From.UnixMicro(), r.Until.UnixMicro(), r.Model, r.Version))
}

// Charge is a charge that was made, as the ledger has it.
type Charge struct {
	ID        uuid.UUID // of its reservation
	Model     string
	Version   string // of the prices it was made by, or that last corrected it
	Usage     price.Usage
	PricedAt  time.Time
	Cost      money.Nano // after the corrections so far
	Corrected bool       // by this re-rating
}

// Line adds up charges that change.
type Line struct {
	Model, Budget, Name string
	Charges             int64
	Old, New            money.Nano
}

// Report is what a re-rating changes, or changed.
type Report struct {
	ID uuid.UUID // uuid.Nil unless applied
	Request
	At                             time.Time
	Total                          Line
	Models, Budgets                []Line
	Unchanged, LeftAlone, Unpriced int64
}

// Store reads charges and keeps reports.
type Store interface {
	// Fresh returns the tenant's catalog as published now, and the time.
	Fresh(ctx context.Context, tenant uuid.UUID) (*catalog.Catalog, time.Time, error)
	// Charges returns up to limit charges that r is about.
	Charges(ctx context.Context, r Request, rerate uuid.UUID, limit int) ([]Charge, error)
	// BudgetsOf returns the budgets that each charge is charged to.
	BudgetsOf(ctx context.Context, tenant uuid.UUID, charges []uuid.UUID) (map[uuid.UUID][]string, error)
	// Begin takes note of a request to apply and returns its id; repeated, the
	// same id, and the report if it is finished. It is a Conflict if the key
	// stands for another request.
	Begin(ctx context.Context, r Request, hash [32]byte) (uuid.UUID, *Report, error)
	// Corrected adds up the corrections of a re-rating by model and by budget.
	Corrected(ctx context.Context, tenant, rerate uuid.UUID) (models, budgets []Line, err error)
	// Finish stores the report of a re-rating with its event, once. It returns
	// the report that is stored.
	Finish(ctx context.Context, r Report) (*Report, error)
}

// Lane does ops and answers once they are durable.
type Lane interface {
	Do(ctx context.Context, op ledger.Op) (ledger.Answer, error)
}

// Rerater prices charges anew.
type Rerater struct {
	store Store
	lane  Lane
}

// New returns a Rerater over store and lane.
func New(store Store, lane Lane) *Rerater { return &Rerater{store, lane} }

// change is a charge that costs something else.
type change struct {
	Charge
	cost    money.Nano
	version string
}

// Preview reports what would change, and changes nothing.
func (x *Rerater) Preview(ctx context.Context, r Request) (Report, error) {
	report := Report{Request: r}
	cat, prices, err := x.prices(ctx, &report)
	if err != nil {
		return report, err
	}
	changes, err := x.compare(ctx, prices, &report)
	if err != nil {
		return report, err
	}
	return report, x.addUp(ctx, cat, changes, &report)
}

// Apply corrects every charge that changes, each in the transaction of its own
// batch, and stores the report. What was interrupted is finished by the same
// request with the same key; one that is finished is only reported.
func (x *Rerater) Apply(ctx context.Context, r Request) (Report, error) {
	report := Report{Request: r}
	cat, prices, err := x.prices(ctx, &report)
	if err != nil {
		return report, err
	}
	id, done, err := x.store.Begin(ctx, r, r.hash())
	if err != nil || done != nil {
		return deref(done), err
	}
	report.ID = id
	changes, err := x.compare(ctx, prices, &report)
	if err != nil {
		return report, err
	}
	g, correcting := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, c := range changes {
		g.Go(func() error {
			_, err := x.lane.Do(correcting, &ledger.Correct{Ref: ledger.Ref{Tenant: r.Tenant, ID: c.ID}, Rerate: id, Cost: c.cost, Version: c.version})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return report, err
	}
	if report.Models, report.Budgets, err = x.store.Corrected(ctx, r.Tenant, id); err != nil {
		return report, err
	}
	for i, l := range report.Budgets {
		report.Budgets[i].Name = nameOf(cat, l.Budget)
	}
	report.total()
	done, err = x.store.Finish(ctx, report)
	return deref(done), err
}

func deref(r *Report) Report {
	if r == nil {
		return Report{}
	}
	return *r
}

// prices are those that the report is to go by.
func (x *Rerater) prices(ctx context.Context, report *Report) (*catalog.Catalog, *price.Table, error) {
	cat, now, err := x.store.Fresh(ctx, report.Tenant)
	if err != nil {
		return nil, nil, err
	}
	report.At = now
	if report.Version == "" {
		return cat, cat.Prices, nil
	}
	prices, known := cat.Prices.As(report.Version)
	if !known {
		return nil, nil, fault.Field("price_version", "there is no version %q of the prices", report.Version).WithReason("PRICE_VERSION_UNKNOWN").
			WithHint(`Name a version of your own list such as "tenant-1", or "shipped".`)
	}
	return cat, prices, nil
}

// compare prices every charge anew and counts those that do not change.
func (x *Rerater) compare(ctx context.Context, prices *price.Table, report *Report) ([]change, error) {
	charges, err := x.store.Charges(ctx, report.Request, report.ID, Most+1)
	if err != nil {
		return nil, err
	}
	if len(charges) > Most {
		return nil, fault.Field("until", "more than %d charges are in this period", Most).WithReason("PERIOD_TOO_LARGE").
			WithHint("Ask for a shorter period, or for one model at a time.")
	}
	var changes []change
	for _, c := range charges {
		if c.Version == "" || c.Version == ledger.HeldVersion || c.Version == ledger.HandVersion {
			report.LeftAlone++
			continue
		}
		p, known := prices.At(c.Model, c.PricedAt)
		if !known {
			report.Unpriced++
			continue
		}
		cost, err := p.Cost(c.Usage)
		if err != nil || cost > amount.Most {
			return nil, fault.Field("price_version", "a call of %q would cost more than can be counted", c.Model).WithReason("AMOUNT_TOO_LARGE")
		}
		switch {
		case c.Corrected: // by this request, before it was interrupted
		case cost == c.Cost:
			report.Unchanged++
		default:
			changes = append(changes, change{c, cost, p.Version})
		}
	}
	return changes, nil
}

// addUp fills in the lines of a preview.
func (x *Rerater) addUp(ctx context.Context, cat *catalog.Catalog, changes []change, report *Report) error {
	ids := make([]uuid.UUID, len(changes))
	for i, c := range changes {
		ids[i] = c.ID
	}
	budgets, err := x.store.BudgetsOf(ctx, report.Tenant, ids)
	if err != nil {
		return err
	}
	var models, drawn lines
	for _, c := range changes {
		models.add(Line{Model: c.Model}, c)
		for _, b := range budgets[c.ID] {
			drawn.add(Line{Model: c.Model, Budget: b, Name: nameOf(cat, b)}, c)
		}
	}
	report.Models, report.Budgets = models.sorted(), drawn.sorted()
	report.total()
	return nil
}

func nameOf(cat *catalog.Catalog, id string) string {
	if catalog.OfEnvelope(id) {
		return catalog.EnvelopeName
	}
	if b := cat.Budget(id); b != nil {
		return b.Name
	}
	return ""
}

func (r *Report) total() {
	r.Total = Line{}
	for _, l := range r.Models {
		r.Total.Charges += l.Charges
		r.Total.Old += l.Old
		r.Total.New += l.New
	}
}
