// Package price keeps a tenant's price lists: immutable, dated versions of what
// models cost it. What ships is another service's business.
package price

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// MaxPrices is how many prices all of a tenant's lists may have together: each
// instance of the data plane holds them.
const MaxPrices = 10_000

// Kept is a price of the tenant's, with the list it came with.
type Kept struct {
	pricelist.Entry
	Revision int64
	Version  string
}

// Change is what is asked of the tenant's prices.
type Change struct {
	Entries []pricelist.Entry
	// End asks for the end of a model's own price instead, at a moment or, if it
	// is zero, now.
	End    string
	At     time.Time
	Etag   string // of the list it is meant for; empty: whichever
	Note   string
	DryRun bool
}

// Store keeps price lists.
type Store interface {
	// ChangePrices adds what Plan makes of c as the next list, in one transaction
	// that also publishes the tenant's next budget bundle and records what
	// happened. Nothing to add, or a dry run, changes nothing. It is a Conflict
	// if c.Etag is not of the latest list. Repeated, it returns what it returned
	// the first time.
	ChangePrices(ctx context.Context, by identity.Principal, c Change, once change.Once) (*pricingv1.ImportPricesResponse, error)
	// PriceLists returns up to limit lists older than a revision, latest first,
	// and the revision of the latest of all.
	PriceLists(ctx context.Context, tenant uuid.UUID, before int64, limit int) ([]Numbered, int64, error)
	// PriceList returns a list with its prices, or NotFound.
	PriceList(ctx context.Context, tenant uuid.UUID, version string) (*pricingv1.PriceVersion, []Kept, error)
}

// Numbered is a list with its place in the order.
type Numbered struct {
	*pricingv1.PriceVersion
	Revision int64
}

// Service is what may be done with price lists.
type Service struct{ store Store }

// New returns a Service over store.
func New(store Store) *Service { return &Service{store: store} }

// Import adds a list. An Invalid fault names everything that is wrong with it.
func (s *Service) Import(ctx context.Context, by identity.Principal, c Change, once change.Once) (*pricingv1.ImportPricesResponse, error) {
	if wrong := pricelist.Check(c.Entries); len(wrong) > 0 {
		return nil, invalid(wrong)
	}
	for i, e := range c.Entries {
		c.Entries[i].Model = pricelist.Name(e.Model)
	}
	return s.store.ChangePrices(ctx, by, c, once)
}

// End ends a model's own price.
func (s *Service) End(ctx context.Context, by identity.Principal, c Change, once change.Once) (*pricingv1.ImportPricesResponse, error) {
	c.End = pricelist.Name(c.End)
	if wrong := pricelist.Check([]pricelist.Entry{{Model: c.End, From: c.At, Ended: true}}); len(wrong) > 0 {
		field := "model"
		if wrong[0].Field == "effective_from" {
			field = "effective_at"
		}
		return nil, fault.Field(field, "%s", wrong[0].Text).WithReason("PRICE_INVALID")
	}
	return s.store.ChangePrices(ctx, by, c, once)
}

// Lists returns up to limit lists older than a revision, and the latest revision.
func (s *Service) Lists(ctx context.Context, tenant uuid.UUID, before int64, limit int) ([]Numbered, int64, error) {
	return s.store.PriceLists(ctx, tenant, before, limit)
}

// List returns one list.
func (s *Service) List(ctx context.Context, tenant uuid.UUID, version string) (*pricingv1.PriceVersion, []Kept, error) {
	return s.store.PriceList(ctx, tenant, version)
}

func invalid(wrong pricelist.Problems) error {
	const most = 50
	var fields []fault.Violation
	for _, p := range wrong[:min(len(wrong), most)] {
		name := "prices"
		if p.Entry >= 0 {
			name = fmt.Sprintf("prices[%d].%s", p.Entry, pricelist.WireField(p.Field))
		}
		fields = append(fields, fault.Violation{Field: name, Description: p.Text})
	}
	return fault.Fields(fields...).WithReason("PRICE_INVALID")
}

// Plan is what a change adds to the prices there are.
type Plan struct {
	Add       []pricelist.Entry
	Before    []*Kept // for each of Add: what was in force then, nil for nothing
	Unchanged int32
}

// Planned compares a change with the prices there are at the moment now, which
// stands for every moment that was not said.
func Planned(kept []Kept, c Change, now time.Time) (Plan, error) {
	entries := c.Entries
	if c.End != "" {
		at := c.At
		if at.IsZero() {
			at = now
		}
		if own := inForce(kept, c.End, at); own == nil || own.Ended {
			return Plan{}, fault.New(fault.NotFound, "there is no price of your own for model %q at %s", c.End, at.Format(time.RFC3339)).
				WithReason("PRICE_NOT_FOUND").WithHint("Only prices that were imported can be ended; a shipped one is replaced by importing another.")
		}
		entries = []pricelist.Entry{{Model: c.End, From: at, Ended: true}}
	}
	var p Plan
	for _, e := range entries {
		said := !e.From.IsZero()
		if !said {
			e.From = now
		}
		own := inForce(kept, e.Model, e.From)
		// A price without a moment is there already if it is in force; one with a
		// moment only if it begins then.
		if own != nil && pricelist.Same(own.Entry, e) && (!said || own.From.Equal(e.From)) {
			p.Unchanged++
			continue
		}
		p.Add, p.Before = append(p.Add, e), append(p.Before, own)
	}
	if len(kept)+len(p.Add) > MaxPrices {
		return p, fault.New(fault.Exhausted, "a tenant has at most %d prices in all its lists", MaxPrices).WithReason("PRICE_LISTS_FULL")
	}
	return p, nil
}

// inForce is the own price of a model at a moment, nil if there is none.
func inForce(kept []Kept, model string, at time.Time) *Kept {
	var found *Kept
	for i := range kept {
		k := &kept[i]
		if k.Model != model || k.From.After(at) {
			continue
		}
		if found == nil || k.From.After(found.From) || k.From.Equal(found.From) && k.Revision > found.Revision {
			found = k
		}
	}
	return found
}
