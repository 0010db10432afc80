// Package catalog is a tenant's budgets and prices as the data plane knows
// them, and says which budgets one action draws on.
package catalog

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// Mode is what a budget does over its limit.
type Mode int16

// The modes, numbered as in fulcrum.cost.v1.BudgetMode.
const (
	Hard     Mode = 1 + iota // refuse
	Soft                     // allow and warn
	Throttle                 // allow at a slower rate

	Prepaid Mode = 4 // refuse beyond the credit put in: a wallet
)

// Subject is everything about one action that a budget's scope can name.
type Subject struct {
	Team, AgentID, UserID, WorkflowID, APIKeyID, Model, EnvelopeID string

	Ancestors []string // of the envelope, nearest first
}

// Scope says whose use a budget counts. Every field that is not empty must
// match; EnvelopeID matches the envelope or an ancestor of it.
type Scope struct {
	Team, AgentID, UserID, WorkflowID, APIKeyID, Model, EnvelopeID string
}

// Matches reports whether an action of s counts.
func (c Scope) Matches(s *Subject) bool {
	return (c.Team == "" || c.Team == s.Team) &&
		(c.AgentID == "" || c.AgentID == s.AgentID) &&
		(c.UserID == "" || c.UserID == s.UserID) &&
		(c.WorkflowID == "" || c.WorkflowID == s.WorkflowID) &&
		(c.APIKeyID == "" || c.APIKeyID == s.APIKeyID) &&
		(c.Model == "" || c.Model == s.Model) &&
		(c.EnvelopeID == "" || c.EnvelopeID == s.EnvelopeID || slices.Contains(s.Ancestors, c.EnvelopeID))
}

// Budget is one budget at one version of its tenant's configuration. It is
// read-only and safe for concurrent use.
type Budget struct {
	ID, Name   string
	Scope      Scope
	Limits     amount.Amounts // 0: no limit of that unit
	Mode       Mode
	Suspended  bool
	Period     calendar.Period
	Thresholds []int32 // hundredths of a percent, rising
	Overrides  []*Override
	Wallet     *Budget // pays for what the budget covers, if not nil

	window atomic.Pointer[calendar.Window] // the last one asked for
}

// Window returns the budget's window around at.
func (b *Budget) Window(at time.Time) calendar.Window {
	if w := b.window.Load(); w != nil && w.Contains(at) {
		return *w
	}
	w := b.Period.At(at)
	b.window.Store(&w)
	return w
}

// Catalog is a tenant's configuration at one version, read-only and safe for
// concurrent use. A tenant that has none has an empty one at version 0.
type Catalog struct {
	Tenant  uuid.UUID
	Version int64
	Zone    *time.Location
	Prices  *price.Table

	budgets []*Budget
	byID    map[string]*Budget
	byName  map[string][]*Budget
	wallets []*Wallet
	index   [scopeFields + 1]map[string][]*Budget // by the first field their scope names
}

// The fields of a scope, most selective first: a budget is filed under the
// first one it names, so that a tenant with thousands of budgets matches few.
const (
	byEnvelope = iota
	byUser
	byKey
	byAgent
	byWorkflow
	byTeam
	byModel
	scopeFields // named by none: the whole tenant
)

// New returns a catalog of budgets, which it owns from then on.
func New(tenant uuid.UUID, version int64, zone *time.Location, budgets []*Budget, prices *price.Table) (*Catalog, error) {
	c := &Catalog{Tenant: tenant, Version: version, Zone: zone, Prices: prices, budgets: budgets, byID: make(map[string]*Budget, len(budgets)), byName: make(map[string][]*Budget, len(budgets))}
	for i := range c.index {
		c.index[i] = make(map[string][]*Budget)
	}
	for _, b := range budgets {
		if c.byID[b.ID] != nil {
			return nil, fmt.Errorf("budget %s is there twice", b.ID)
		}
		c.byID[b.ID] = b
		c.byName[b.Name] = append(c.byName[b.Name], b)
		field, value := b.Scope.filed()
		c.index[field][value] = append(c.index[field][value], b)
	}
	return c, nil
}

// Empty is the catalog of a tenant that has configured nothing.
func Empty(tenant uuid.UUID) *Catalog {
	c, _ := New(tenant, 0, time.UTC, nil, price.NewTable(nil))
	return c
}

func (c Scope) filed() (field int, value string) {
	for i, v := range [scopeFields]string{c.EnvelopeID, c.UserID, c.APIKeyID, c.AgentID, c.WorkflowID, c.Team, c.Model} {
		if v != "" {
			return i, v
		}
	}
	return scopeFields, ""
}

// Budget returns one budget by its id, or nil.
func (c *Catalog) Budget(id string) *Budget { return c.byID[id] }

// Named returns the budgets with one of these names that s draws on, and those
// that it does not if nothing else has their name.
func (c *Catalog) Named(names []string, s *Subject) (out []*Budget) {
	for _, name := range names {
		all := c.byName[name]
		for _, b := range all {
			if (len(all) == 1 || b.Scope.Matches(s)) && name != "" && !slices.Contains(out, b) {
				out = append(out, b)
			}
		}
	}
	return out
}

// Account returns the budget or wallet that is in the ledger under id, or nil.
func (c *Catalog) Account(id string) *Budget {
	if b := c.byID[id]; b != nil {
		return b
	}
	if id == Suspense.ID {
		return Suspense
	}
	for _, w := range c.wallets {
		if w.Account.ID == id {
			return w.Account
		}
	}
	return nil
}

// Wallets lists every wallet, oldest first.
func (c *Catalog) Wallets() []*Wallet { return c.wallets }

// WithWallets gives c its wallets, which it owns from then on. It must not be
// in use yet.
func (c *Catalog) WithWallets(wallets []*Wallet) *Catalog {
	c.wallets = wallets
	return c
}

// Budgets lists every budget.
func (c *Catalog) Budgets() []*Budget { return c.budgets }

// Draws returns the budgets that an action of s draws on: all whose scope
// matches, the one named explicitly if any, and the limits that envelopes
// carry, and the wallets that pay for them, each once. An explicit budget that
// does not exist is a NotFound fault.
func (c *Catalog) Draws(s *Subject, explicit string, envelopes []EnvelopeLimits) ([]*Budget, error) {
	draws := make([]*Budget, 0, 4)
	keys := [scopeFields + 1]string{s.EnvelopeID, s.UserID, s.APIKeyID, s.AgentID, s.WorkflowID, s.Team, s.Model, ""}
	for field, key := range keys {
		if key == "" && field != scopeFields {
			continue
		}
		for _, b := range c.index[field][key] {
			if b.Scope.Matches(s) {
				draws = append(draws, b)
			}
		}
	}
	for _, id := range s.Ancestors {
		if id == s.EnvelopeID {
			continue
		}
		for _, b := range c.index[byEnvelope][id] {
			if b.Scope.Matches(s) && !slices.Contains(draws, b) {
				draws = append(draws, b)
			}
		}
	}
	if explicit != "" {
		b := c.byID[explicit]
		if b == nil {
			return nil, fault.New(fault.NotFound, "there is no budget %q", explicit).WithReason("BUDGET_NOT_FOUND").WithMeta("budget_id", explicit)
		}
		if !slices.Contains(draws, b) {
			draws = append(draws, b)
		}
	}
	for i := range envelopes {
		b := envelopes[i].budget()
		if b != nil && !slices.ContainsFunc(draws, func(d *Budget) bool { return d.ID == b.ID }) {
			draws = append(draws, b)
		}
	}
	for _, b := range draws { // of the slice as it is here: wallets have none
		if b.Wallet != nil && !slices.Contains(draws, b.Wallet) {
			draws = append(draws, b.Wallet)
		}
	}
	return draws, nil
}

// EnvelopeLimits are limits that an envelope carries by itself.
type EnvelopeLimits struct {
	EnvelopeID string
	Limits     amount.Amounts
	// Slice: the limits were set aside in those of the envelopes above, which
	// stand behind this one in a list.
	Slice bool
}

// Behind names a budget of an envelope that stands behind a slice: Via is the
// budget of the envelope whose slice is held in it.
type Behind struct{ Budget, Via string }

// Split divides the limits that envelopes carry, nearest first: those that an
// action draws on itself, up to the first slice, and those that stand behind it.
func Split(list []EnvelopeLimits) (direct []EnvelopeLimits, behind []Behind) {
	via := ""
	for _, l := range list {
		switch {
		case l.Limits.IsZero():
			continue
		case via == "":
			direct = append(direct, l)
		default:
			behind = append(behind, Behind{EnvelopeBudget(l.EnvelopeID), via})
		}
		if l.Slice {
			via = EnvelopeBudget(l.EnvelopeID)
		}
	}
	return direct, behind
}

// Budgets are the limits that envelopes carry as budgets, each once.
func Budgets(list []EnvelopeLimits) (out []*Budget) {
	for i := range list {
		b := list[i].budget()
		if b != nil && !slices.ContainsFunc(out, func(d *Budget) bool { return d.ID == b.ID }) {
			out = append(out, b)
		}
	}
	return out
}

// EnvelopeBudget is the id under which an envelope's own limits are counted.
func EnvelopeBudget(envelopeID string) string { return "envelope:" + envelopeID }

// EnvelopeName is what the limits of an envelope are called.
const EnvelopeName = "limits of the envelope"

// DefaultThresholds are those of a budget that configures none. Read-only.
var DefaultThresholds = []int32{8000, 9500, 10000}

// budget is the limits as a budget, or nil when there are none. They were fixed
// when the envelope was made and are of version 0 forever.
func (l EnvelopeLimits) budget() *Budget {
	if l.Limits.IsZero() {
		return nil
	}
	return &Budget{
		ID:         EnvelopeBudget(l.EnvelopeID),
		Name:       EnvelopeName,
		Limits:     l.Limits,
		Mode:       Hard,
		Period:     calendar.Period{Kind: calendar.Infinite},
		Thresholds: DefaultThresholds,
	}
}

// OfEnvelope reports whether id is of the limits an envelope carries.
func OfEnvelope(id string) bool { return strings.HasPrefix(id, "envelope:") }

// Renumbered is c under a later version's number: what stays in force when
// that version cannot be used.
func (c *Catalog) Renumbered(version int64) *Catalog {
	n := *c
	n.Version = version
	return &n
}

// VersionOf is the version that a budget's limits count as: the catalog's, but
// 0 for limits of an envelope and for what has none, which never change.
func (c *Catalog) VersionOf(b *Budget) int64 {
	if OfEnvelope(b.ID) || b == Suspense {
		return 0
	}
	return c.Version
}
