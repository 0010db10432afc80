package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// ensureParams are the rows of windows that may not be there yet.
func (b *batch) ensureParams(keys []ledger.WindowKey) budgetdb.EnsureWindowsParams {
	var arg budgetdb.EnsureWindowsParams
	var limit columns
	for _, key := range keys {
		d := b.draws[key]
		arg.TenantIds = append(arg.TenantIds, key.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, key.Budget)
		arg.WindowStarts = append(arg.WindowStarts, d.Span.Start)
		arg.WindowEnds = append(arg.WindowEnds, d.Span.End)
		arg.ConfigVersions = append(arg.ConfigVersions, b.books.Catalogs[key.Tenant].VersionOf(d.Budget))
		arg.Modes = append(arg.Modes, int16(d.Budget.Mode))
		arg.Suspended = append(arg.Suspended, d.Terms.Suspended)
		limit.add(d.Terms.Limits)
	}
	arg.CostNanoLimits = limit[amount.Cost]
	arg.TotalTokensLimits = limit[amount.TotalTokens]
	arg.InputTokensLimits = limit[amount.InputTokens]
	arg.OutputTokensLimits = limit[amount.OutputTokens]
	arg.LlmCallsLimits = limit[amount.LLMCalls]
	arg.ToolCallsLimits = limit[amount.ToolCalls]
	arg.SecondsLimits = limit[amount.Seconds]
	return arg
}

// windowWrites save every window that changed, in lock order, if g holds.
func (b *batch) windowWrites(g guard) []step {
	dirty := make([]*ledger.Window, 0, len(b.locked))
	onlyHeld := b.recalled
	for i, key := range b.locked {
		w := b.books.Windows[key]
		if w == nil || !w.Changed() && !w.Reconfigured() {
			continue
		}
		dirty = append(dirty, w)
		onlyHeld = onlyHeld && w.OnlyHeld(&b.desk.rows[i])
	}
	switch n := len(dirty); {
	case n == 0:
		return nil
	case onlyHeld:
		arg := heldParams(g, dirty)
		return []step{func(ctx context.Context, q *budgetdb.Queries) error { return all(n)(q.SaveHeld(ctx, arg)) }}
	default:
		arg := saveParams(g, dirty)
		return []step{func(ctx context.Context, q *budgetdb.Queries) error { return all(n)(q.SaveWindows(ctx, arg)) }}
	}
}

func saveParams(g guard, windows []*ledger.Window) budgetdb.SaveWindowsParams {
	n := len(windows)
	arg := budgetdb.SaveWindowsParams{
		NotBefore: g.notBefore, NotAfter: g.notAfter, Believed: g.believed, Tenants: g.tenants, BundleVersions: g.versions,
		TenantIds: make([]uuid.UUID, 0, n), BudgetIds: make([]string, 0, n), WindowStarts: make([]time.Time, 0, n), WindowEnds: make([]time.Time, 0, n),
		ConfigVersions: make([]int64, 0, n), Modes: make([]int16, 0, n), Suspended: make([]bool, 0, n), Versions: make([]int64, 0, n),
		ReachedBps: make([]int32, 0, n), ThrottledUntils: make([]time.Time, 0, n), Counters: make([]int64, 0, 4*int(amount.Units)*n),
	}
	for _, w := range windows {
		arg.TenantIds = append(arg.TenantIds, w.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, w.Budget)
		arg.WindowStarts = append(arg.WindowStarts, w.StartTime())
		arg.WindowEnds = append(arg.WindowEnds, w.End)
		arg.ConfigVersions = append(arg.ConfigVersions, w.ConfigVersion)
		arg.Modes = append(arg.Modes, int16(w.Mode))
		arg.Suspended = append(arg.Suspended, w.Suspended)
		arg.Versions = append(arg.Versions, w.Version)
		arg.ReachedBps = append(arg.ReachedBps, w.ReachedBP)
		arg.ThrottledUntils = append(arg.ThrottledUntils, w.ThrottledUntil)
		for u := range amount.Units {
			arg.Counters = append(arg.Counters, w.Limit[u], w.Held[u], w.Spent[u], w.Over[u])
		}
	}
	return arg
}

func heldParams(g guard, windows []*ledger.Window) budgetdb.SaveHeldParams {
	n := len(windows)
	arg := budgetdb.SaveHeldParams{
		NotBefore: g.notBefore, NotAfter: g.notAfter, Believed: g.believed, Tenants: g.tenants, BundleVersions: g.versions,
		TenantIds: make([]uuid.UUID, 0, n), BudgetIds: make([]string, 0, n), WindowStarts: make([]time.Time, 0, n), Versions: make([]int64, 0, n),
		ThrottledUntils: make([]time.Time, 0, n), Held: make([]int64, 0, int(amount.Units)*n),
	}
	for _, w := range windows {
		arg.TenantIds = append(arg.TenantIds, w.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, w.Budget)
		arg.WindowStarts = append(arg.WindowStarts, w.StartTime())
		arg.Versions = append(arg.Versions, w.Version)
		arg.ThrottledUntils = append(arg.ThrottledUntils, w.ThrottledUntil)
		arg.Held = append(arg.Held, w.Held[:]...)
	}
	return arg
}

// all refuses an update that missed a row: everything updated was locked before.
func all(n int) func(int64, error) error {
	return func(rows int64, err error) error {
		if err == nil && rows != int64(n) {
			return fmt.Errorf("updated %d of %d rows", rows, n)
		}
		return err
	}
}

// ledgerWrites insert what the ops added.
func (b *batch) ledgerWrites(w *ledger.Writes) []step {
	var steps []step
	if len(w.Reservations) > 0 {
		res := b.reservationParams(w.Reservations)
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertReservations(ctx, res) })
	}
	if len(w.Renewed) > 0 {
		arg, renewals := b.renewParams(w.Renewed)
		steps = append(steps,
			func(ctx context.Context, q *budgetdb.Queries) error {
				return all(len(arg.Ids))(q.RenewReservations(ctx, arg))
			},
			func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertRenewals(ctx, renewals) })
	}
	steps = append(steps, b.sliceWrites(w)...)
	if len(w.Settlements) > 0 {
		arg := b.settlementParams(w.Settlements)
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertSettlements(ctx, arg) })
	}
	if len(w.Corrections) > 0 {
		steps = append(steps, b.correctionWrites(w.Corrections)...)
	}
	if len(w.Movements) > 0 {
		arg := b.movementParams(w.Movements)
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.InsertMovements(ctx, arg) })
	}
	steps = append(steps, b.journalWrites(w)...)
	if len(w.Spend) > 0 {
		spend, costs := spendParams(w.Spend)
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.AddSpend(ctx, spend) })
		if len(costs.EnvelopeIds) > 0 {
			steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error { return q.AddEnvelopeCosts(ctx, costs) })
		}
		steps = append(steps, learnedWrites(w.Spend)...)
	}
	return append(steps, noticeWrites(w.Events)...)
}

func (b *batch) reservationParams(list []*ledger.Reservation) budgetdb.InsertReservationsParams {
	n := len(list)
	arg := budgetdb.InsertReservationsParams{
		CreatedAt: b.books.Now, TenantIds: make([]uuid.UUID, 0, n), Ids: make([]uuid.UUID, 0, n), RequestHashes: make([][]byte, 0, n), PriceVersions: make([]string, 0, n),
		Teams: make([]string, 0, n), AgentIds: make([]string, 0, n), UserIds: make([]string, 0, n), WorkflowIds: make([]string, 0, n), ApiKeyIds: make([]string, 0, n),
		Models: make([]string, 0, n), EnvelopeIds: make([]string, 0, n), ExpiresAts: make([]time.Time, 0, n), Posted: make([]bool, 0, n), Amounts: make([]int64, 0, int(amount.Units)*n),
		Firsts: make([]int32, 0, n), Lasts: make([]int32, 0, n), BudgetIds: make([]string, 0, 3*n), WindowStarts: make([]time.Time, 0, 3*n), Vias: []string{},
	}
	sliced := slices.ContainsFunc(list, func(r *ledger.Reservation) bool { return len(r.Behind) > 0 })
	for i, r := range list {
		arg.TenantIds = append(arg.TenantIds, r.Tenant)
		arg.Ids = append(arg.Ids, r.ID)
		arg.RequestHashes = append(arg.RequestHashes, r.Hash[:])
		arg.PriceVersions = append(arg.PriceVersions, r.PriceVersion)
		arg.Teams = append(arg.Teams, r.Subject.Team)
		arg.AgentIds = append(arg.AgentIds, r.Subject.AgentID)
		arg.UserIds = append(arg.UserIds, r.Subject.UserID)
		arg.WorkflowIds = append(arg.WorkflowIds, r.Subject.WorkflowID)
		arg.ApiKeyIds = append(arg.ApiKeyIds, r.Subject.APIKeyID)
		arg.Models = append(arg.Models, r.Subject.Model)
		arg.EnvelopeIds = append(arg.EnvelopeIds, r.Subject.EnvelopeID)
		arg.ExpiresAts = append(arg.ExpiresAts, r.ExpiresAt)
		arg.Posted = append(arg.Posted, !r.Unposted)
		arg.Amounts = append(arg.Amounts, r.Amounts[:]...)
		if i > 0 && len(r.Behind) == 0 && len(list[i-1].Behind) == 0 && slices.Equal(r.Parts, list[i-1].Parts) {
			arg.Firsts, arg.Lasts = append(arg.Firsts, arg.Firsts[i-1]), append(arg.Lasts, arg.Lasts[i-1])
			continue // on the path of the one before
		}
		arg.Firsts = append(arg.Firsts, int32(len(arg.BudgetIds)+1))
		for _, key := range r.Parts {
			arg.BudgetIds, arg.WindowStarts = append(arg.BudgetIds, key.Budget), append(arg.WindowStarts, key.StartTime())
			if sliced {
				arg.Vias = append(arg.Vias, "")
			}
		}
		for _, at := range r.Behind {
			arg.BudgetIds, arg.WindowStarts = append(arg.BudgetIds, at.Key.Budget), append(arg.WindowStarts, at.Key.StartTime())
			arg.Vias = append(arg.Vias, at.Via.Budget)
		}
		arg.Lasts = append(arg.Lasts, int32(len(arg.BudgetIds)))
	}
	if arg.Firsts[n-1] == 1 && arg.Lasts[n-1] == arg.Lasts[0] { // all on one path
		arg.Firsts, arg.Lasts = arg.Firsts[:0], arg.Lasts[:0]
	}
	if !slices.ContainsFunc(list, func(r *ledger.Reservation) bool { return r.Tenant != list[0].Tenant }) {
		arg.TenantIds = arg.TenantIds[:1]
	}
	if !slices.ContainsFunc(list, func(r *ledger.Reservation) bool { return !r.ExpiresAt.Equal(list[0].ExpiresAt) }) {
		arg.ExpiresAts = arg.ExpiresAts[:1]
	}
	if !slices.Contains(arg.Posted, true) {
		arg.Posted = arg.Posted[:0]
	}
	for _, column := range []*[]string{
		&arg.PriceVersions, &arg.Teams, &arg.AgentIds, &arg.UserIds, &arg.WorkflowIds, &arg.ApiKeyIds, &arg.Models, &arg.EnvelopeIds,
	} {
		if !slices.ContainsFunc(*column, func(v string) bool { return v != "" }) {
			*column = (*column)[:0]
		}
	}
	return arg
}

// renewParams are the last expiry of each hold, and every renewal.
func (b *batch) renewParams(list []*ledger.Renewal) (budgetdb.RenewReservationsParams, budgetdb.InsertRenewalsParams) {
	all := budgetdb.InsertRenewalsParams{CreatedAt: b.books.Now}
	last := make(map[ledger.Ref]*ledger.Renewal, len(list))
	for _, r := range list {
		last[r.Ref] = r
		all.TenantIds = append(all.TenantIds, r.Tenant)
		all.ReservationIds = append(all.ReservationIds, r.ID)
		all.Keys = append(all.Keys, r.Key)
		all.TtlsMs = append(all.TtlsMs, r.TTL.Milliseconds())
		all.ExpiresAts = append(all.ExpiresAts, r.ExpiresAt)
	}
	var arg budgetdb.RenewReservationsParams
	for _, r := range last {
		arg.TenantIds = append(arg.TenantIds, r.Tenant)
		arg.Ids = append(arg.Ids, r.ID)
		arg.ExpiresAts = append(arg.ExpiresAts, r.ExpiresAt)
	}
	return arg, all
}

func (b *batch) settlementParams(list []*ledger.Settlement) budgetdb.InsertSettlementsParams {
	arg := budgetdb.InsertSettlementsParams{CreatedAt: b.books.Now}
	for _, s := range list {
		arg.TenantIds = append(arg.TenantIds, s.Tenant)
		arg.ReservationIds = append(arg.ReservationIds, s.ID)
		arg.Late = append(arg.Late, s.Late)
		arg.Kinds = append(arg.Kinds, string(s.Kind))
		arg.IdempotencyKeys = append(arg.IdempotencyKeys, s.Key)
		arg.RequestHashes = append(arg.RequestHashes, s.Hash[:])
		arg.Models = append(arg.Models, s.Model)
		arg.PriceVersions = append(arg.PriceVersions, s.PriceVersion)
		arg.Reasons = append(arg.Reasons, s.Reason)
		arg.Failed = append(arg.Failed, s.Failed)
		arg.CachedTokens = append(arg.CachedTokens, s.Cached)
		arg.CacheWriteTokens = append(arg.CacheWriteTokens, s.CacheWrite)
		arg.ReasoningTokens = append(arg.ReasoningTokens, s.Reasoning)
		arg.Amounts = append(arg.Amounts, s.Charged[:]...)
	}
	return arg
}

// sums is what one row of a summary grows by.
type sums struct {
	amounts           amount.Amounts
	charges, failures int64
	workflow          string // of an envelope
}

func (s *sums) add(c ledger.Spend) {
	s.amounts, _ = s.amounts.Plus(c.Charged)
	s.workflow = c.Subject.WorkflowID
	s.charges++
	if c.Failed {
		s.failures++
	}
}

// rollupKey is the key of a row of spend_rollups, costKey of envelope_costs;
// as arrays they sort in the order of the primary keys.
type (
	rollupKey struct {
		ledger.WindowKey // tenant and hour
		dims             [5]string
	}
	costKey struct {
		ledger.WindowKey // tenant and envelope
		model            string
	}
)

// spendParams add up a batch's charges, so that each row is written once, in
// key order.
func spendParams(list []ledger.Spend) (budgetdb.AddSpendParams, budgetdb.AddEnvelopeCostsParams) {
	rollups := make(map[rollupKey]*sums)
	costs := make(map[costKey]*sums)
	for _, c := range list {
		key := rollupKey{
			ledger.WindowKey{Tenant: c.Tenant, Start: c.Hour.UnixMicro()},
			[5]string{c.Subject.WorkflowID, c.Subject.Team, c.Subject.AgentID, c.Subject.APIKeyID, c.Model},
		}
		at(rollups, key).add(c)
		if c.Subject.EnvelopeID != "" {
			at(costs, costKey{ledger.WindowKey{Tenant: c.Tenant, Budget: c.Subject.EnvelopeID}, c.Model}).add(c)
		}
	}

	var spend budgetdb.AddSpendParams
	var amounts columns
	for _, key := range sorted(rollups, func(a, b rollupKey) int {
		return cmp.Or(compareKeys(a.WindowKey, b.WindowKey), slices.Compare(a.dims[:], b.dims[:]))
	}) {
		sum := rollups[key]
		spend.TenantIds = append(spend.TenantIds, key.Tenant)
		spend.Hours = append(spend.Hours, key.StartTime())
		spend.WorkflowIds = append(spend.WorkflowIds, key.dims[0])
		spend.Teams = append(spend.Teams, key.dims[1])
		spend.AgentIds = append(spend.AgentIds, key.dims[2])
		spend.ApiKeyIds = append(spend.ApiKeyIds, key.dims[3])
		spend.Models = append(spend.Models, key.dims[4])
		spend.Charges = append(spend.Charges, sum.charges)
		spend.Failures = append(spend.Failures, sum.failures)
		amounts.add(sum.amounts)
	}
	spend.CostNano = amounts[amount.Cost]
	spend.TotalTokens = amounts[amount.TotalTokens]
	spend.InputTokens = amounts[amount.InputTokens]
	spend.OutputTokens = amounts[amount.OutputTokens]
	spend.LlmCalls = amounts[amount.LLMCalls]
	spend.ToolCalls = amounts[amount.ToolCalls]
	spend.Seconds = amounts[amount.Seconds]

	var cost budgetdb.AddEnvelopeCostsParams
	amounts = columns{}
	for _, key := range sorted(costs, func(a, b costKey) int {
		return cmp.Or(compareKeys(a.WindowKey, b.WindowKey), cmp.Compare(a.model, b.model))
	}) {
		sum := costs[key]
		cost.TenantIds = append(cost.TenantIds, key.Tenant)
		cost.EnvelopeIds = append(cost.EnvelopeIds, key.Budget)
		cost.Models = append(cost.Models, key.model)
		cost.WorkflowIds = append(cost.WorkflowIds, sum.workflow)
		cost.Charges = append(cost.Charges, sum.charges)
		cost.Failures = append(cost.Failures, sum.failures)
		amounts.add(sum.amounts)
	}
	cost.CostNano = amounts[amount.Cost]
	cost.TotalTokens = amounts[amount.TotalTokens]
	cost.InputTokens = amounts[amount.InputTokens]
	cost.OutputTokens = amounts[amount.OutputTokens]
	cost.LlmCalls = amounts[amount.LLMCalls]
	cost.ToolCalls = amounts[amount.ToolCalls]
	cost.Seconds = amounts[amount.Seconds]
	return spend, cost
}

func at[K comparable](m map[K]*sums, key K) *sums {
	s := m[key]
	if s == nil {
		s = new(sums)
		m[key] = s
	}
	return s
}

func sorted[K comparable](m map[K]*sums, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compare)
	return keys
}
