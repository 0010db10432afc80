package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// batch is one transaction at work.
type batch struct {
	*Store
	ops  []ledger.Op
	left []int // indexes of ops

	began      time.Time // ours, just before the transaction
	tenants    []uuid.UUID
	renewals   budgetdb.FindRenewalsParams
	corrects   refs // of the charges to correct
	slices     refs // of the envelopes that ops take or return the slices of
	movements  budgetdb.FindMovementsParams
	refs       refs // every reservation the ops name, each once
	fresh, old refs // those that a Reserve names only, and the others
	books      ledger.Books
	desk       *desk // its own unless there is one
	recalled   bool  // the windows are from memory
	stale      []uuid.UUID
	draws      map[ledger.WindowKey]*ledger.Draw
	locked     []ledger.WindowKey        // in lock order
	made       map[ledger.WindowKey]bool // those that had no row
}

// refs are references in the form of columns.
type refs struct{ tenants, ids []uuid.UUID }

func (r *refs) add(ref ledger.Ref) {
	r.tenants, r.ids = append(r.tenants, ref.Tenant), append(r.ids, ref.ID)
}

// open names the tenants and opens the books.
func (b *batch) open() {
	if b.desk == nil {
		b.desk = newDesk()
	}
	b.books = ledger.Books{
		Catalogs:     make(map[uuid.UUID]*catalog.Catalog),
		Windows:      b.desk.windows,
		Reservations: make(map[ledger.Ref]*ledger.Reservation, len(b.left)),
		Ends:         make(map[ledger.Ref]ledger.End),
		Renewals:     make(map[ledger.RenewalKey]*ledger.Renewal),
		Corrections:  make(map[ledger.Ref][]*ledger.Correction),
		Slices:       make(map[ledger.Ref]*ledger.Slice),
		Movements:    make(map[ledger.MovementKey]*ledger.Movement),
	}
	posting := 0
	for _, i := range b.left {
		if _, hold := b.ops[i].(*ledger.Reserve); !hold { // one seldom posts
			posting++
		}
		tenant := b.ops[i].Of().Tenant
		if n := len(b.tenants); n > 0 && b.tenants[n-1] == tenant {
			continue
		}
		if b.books.Catalogs[tenant] == nil {
			b.books.Catalogs[tenant] = b.catalogs.get(tenant)
			b.tenants = append(b.tenants, tenant)
		}
	}
	b.books.Writes.Expect(posting)
}

// collect is open, and names what is to be looked up.
func (b *batch) collect() {
	b.open()
	reserves := make(map[ledger.Ref]bool, len(b.left))
	for _, i := range b.left {
		ref := b.ops[i].Of()
		if r, ok := b.ops[i].(*ledger.Renew); ok {
			b.renewals.TenantIds = append(b.renewals.TenantIds, ref.Tenant)
			b.renewals.Ids = append(b.renewals.Ids, ref.ID)
			b.renewals.Keys = append(b.renewals.Keys, r.Key)
		}
		switch b.ops[i].(type) {
		case *ledger.Correct:
			b.corrects.add(ref)
		case *ledger.TakeSlice, *ledger.ReturnSlice:
			b.slices.add(ref)
		}
		if m, ok := b.ops[i].(*ledger.Move); ok {
			b.movements.TenantIds = append(b.movements.TenantIds, m.Tenant)
			b.movements.Keys = append(b.movements.Keys, m.Key)
			if m.Reservation != uuid.Nil {
				b.corrects.add(ref)
			}
		}
		_, isReserve := b.ops[i].(*ledger.Reserve)
		only, seen := reserves[ref]
		reserves[ref] = isReserve && (only || !seen)
		if !seen {
			b.refs.add(ref)
		}
	}
	for i, id := range b.refs.ids {
		ref := ledger.Ref{Tenant: b.refs.tenants[i], ID: id}
		if reserves[ref] {
			b.fresh.add(ref)
		} else {
			b.old.add(ref)
		}
	}
}

// clock reads the database's time and which versions of the configuration are
// published, and sees to it that statements get sensible plans.
func (b *batch) clock() []step {
	return []step{
		func(ctx context.Context, q *budgetdb.Queries) error { return q.PlanForBatches(ctx) },
		func(ctx context.Context, q *budgetdb.Queries) error {
			now, err := q.Clock(ctx)
			b.books.Now = now.UTC()
			return err
		},
		func(ctx context.Context, q *budgetdb.Queries) error {
			versions, err := q.BundleVersions(ctx)
			for _, v := range versions {
				if v.Version > b.books.Catalogs[v.TenantID].Version {
					b.stale = append(b.stale, v.TenantID)
				}
			}
			return err
		},
	}
}

// guess fills in from memory what look would read, and reports whether all of
// it is known. What was guessed wrong is noticed under the locks.
func (b *batch) guess() bool {
	now, known := b.clockGuess.now()
	if !known {
		return false
	}
	b.books.Now = now
	for i, id := range b.old.ids {
		ref := ledger.Ref{Tenant: b.old.tenants[i], ID: id}
		m, known := b.recent.get(ref)
		if !known {
			return false
		}
		b.books.Reservations[ref] = &ledger.Reservation{Ref: ref, Parts: m.reservation.Parts, Behind: m.reservation.Behind}
	}
	return true
}

// look reads what does not need a lock: the clock, the versions of the
// configuration, and in which windows known reservations hold.
func (b *batch) look(ctx context.Context, tx db.Tx) error {
	clear(b.books.Reservations)
	steps := b.clock()
	if len(b.old.ids) > 0 {
		steps = append(steps, b.findParts(b.old))
	}
	if len(b.slices.ids) > 0 {
		steps = append(steps, b.findSlices)
	}
	if err := pipelined(ctx, tx, steps, nil); err != nil {
		return err
	}
	return b.current()
}

// current refuses to go on with configuration, or in windows, that are not
// those of now.
func (b *batch) current() error {
	b.clockGuess.set(b.books.Now, b.began)
	if len(b.stale) > 0 {
		return errStale
	}
	for _, d := range b.draws {
		if d.Placed && !d.Span.Contains(b.books.Now) {
			return errMoved
		}
	}
	return nil
}

func (b *batch) findParts(of refs) step {
	return func(ctx context.Context, q *budgetdb.Queries) error {
		rows, err := q.FindParts(ctx, budgetdb.FindPartsParams{TenantIds: of.tenants, Ids: of.ids})
		for _, row := range rows {
			res := &ledger.Reservation{Ref: ledger.Ref{Tenant: row.TenantID, ID: row.ID}}
			res.Parts, res.Behind = parts(row.TenantID, row.BudgetIds, row.WindowStarts, row.Vias)
			b.books.Reservations[res.Ref] = res
		}
		return err
	}
}

// prepare asks every op for its windows and puts them in lock order.
func (b *batch) prepare() {
	b.draws, b.locked = b.desk.draws, b.desk.locked
	for _, i := range b.left {
		b.add(b.ops[i].Prepare(&b.books))
	}
	b.order()
	b.desk.locked = b.locked
}

func (b *batch) place(draws []ledger.Draw) {
	b.draws = make(map[ledger.WindowKey]*ledger.Draw, len(draws))
	b.add(draws)
	b.order()
}

// add takes note of windows that are needed. Of several draws on one, what any
// of them knows counts. A draw is its op's: it is not changed.
func (b *batch) add(draws []ledger.Draw) {
	for i := range draws {
		d := &draws[i]
		had := b.draws[d.Key]
		if had == nil {
			b.draws[d.Key] = d
			continue
		}
		if both := together(had, d); both != *had {
			known := both
			b.draws[d.Key] = &known
		}
	}
}

// together is what a draw says with what a later one of the same window knows.
func together(had, d *ledger.Draw) ledger.Draw {
	both := *had
	both.Placed = both.Placed || d.Placed
	if d.Budget != nil {
		both.Budget, both.Span, both.Terms = d.Budget, d.Span, d.Terms
	}
	return both
}

// order puts the windows in lock order.
func (b *batch) order() {
	b.locked = slices.Grow(b.locked[:0], len(b.draws))
	for key := range b.draws {
		b.locked = append(b.locked, key)
	}
	slices.SortFunc(b.locked, compareKeys)
}

// compareKeys is the order of the primary key, bytewise as in the database.
func compareKeys(a, b ledger.WindowKey) int {
	return cmp.Or(
		slices.Compare(a.Tenant[:], b.Tenant[:]),
		cmp.Compare(a.Budget, b.Budget),
		cmp.Compare(a.Start, b.Start),
	)
}

// missing lists the windows that may have no row yet, in lock order.
func (b *batch) missing() (keys []ledger.WindowKey) {
	for _, key := range b.locked {
		if b.draws[key].Budget != nil && !b.there.has(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// lock makes the rows that are missing, locks all, and only then reads what
// other instances may have written while this one waited.
//
// With guessed facts it reads the real ones in the same round trip.
func (b *batch) lock(ctx context.Context, tx db.Tx, missing []ledger.WindowKey, guessed bool) error {
	var steps []step
	if guessed {
		steps = b.clock()
	}
	if len(missing) > 0 {
		arg := b.ensureParams(missing)
		b.made = make(map[ledger.WindowKey]bool)
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error {
			rows, err := q.EnsureWindows(ctx, arg)
			for _, row := range rows {
				b.made[windowKey(row.TenantID, row.BudgetID, row.WindowStart)] = true
			}
			return err
		})
	}
	if len(b.locked) > 0 {
		var arg budgetdb.LockWindowsParams
		for _, key := range b.locked {
			arg.TenantIds = append(arg.TenantIds, key.Tenant)
			arg.BudgetIds = append(arg.BudgetIds, key.Budget)
			arg.WindowStarts = append(arg.WindowStarts, key.StartTime())
		}
		steps = append(steps, func(ctx context.Context, q *budgetdb.Queries) error {
			rows, err := q.LockWindows(ctx, arg)
			for _, row := range rows {
				w := window(row)
				b.books.Windows[w.WindowKey] = w
			}
			return err
		})
	}
	steps = append(steps, b.findReservations, b.findSettlements)
	if len(b.renewals.Ids) > 0 {
		steps = append(steps, b.findRenewals)
	}
	if len(b.corrects.ids) > 0 {
		steps = append(steps, b.findCorrections)
	}
	if len(b.slices.ids) > 0 {
		steps = append(steps, b.findSlices)
	}
	if len(b.movements.Keys) > 0 {
		steps = append(steps, b.findMovements)
	}
	if err := pipelined(ctx, tx, steps, nil); err != nil {
		return err
	}
	if err := b.current(); err != nil {
		return err
	}
	forgot := false
	for ref, res := range b.books.Reservations {
		if res.CreatedAt.IsZero() { // remembered, but not there: its op was prepared for another state
			b.recent.forget(ref)
			forgot = true
		}
	}
	if forgot {
		return errMoved
	}
	if err := b.carry(ctx, tx); err != nil {
		return err
	}
	return b.lookAtRepeated(ctx, tx)
}

// carry takes over into windows that are new, or now of another length, what was
// used in windows of the same budget that overlap them: a change of period or
// time zone resets nothing.
func (b *batch) carry(ctx context.Context, tx db.Tx) error {
	var arg budgetdb.UsedBeforeParams
	for _, key := range b.locked {
		d, w := b.draws[key], b.books.Windows[key]
		if w == nil || !d.Placed || catalog.OfEnvelope(key.Budget) {
			continue
		}
		longer := !w.End.Equal(d.Span.End) && b.books.Catalogs[key.Tenant].Version > w.ConfigVersion
		if !b.made[key] && !longer {
			continue
		}
		arg.TenantIds = append(arg.TenantIds, key.Tenant)
		arg.BudgetIds = append(arg.BudgetIds, key.Budget)
		arg.WindowStarts = append(arg.WindowStarts, key.StartTime())
		arg.WindowEnds = append(arg.WindowEnds, d.Span.End)
	}
	if len(arg.BudgetIds) == 0 {
		return nil
	}
	return pipelined(ctx, tx, []step{func(ctx context.Context, q *budgetdb.Queries) error {
		rows, err := q.UsedBefore(ctx, arg)
		for _, r := range rows {
			b.books.Carry(windowKey(r.TenantID, r.BudgetID, r.WindowStart), amount.Amounts{r.CostNano, r.TotalTokens, r.InputTokens, r.OutputTokens, r.LlmCalls, r.ToolCalls, r.Seconds})
		}
		return err
	}}, nil)
}

func (b *batch) findReservations(ctx context.Context, q *budgetdb.Queries) error {
	rows, err := q.FindReservations(ctx, budgetdb.FindReservationsParams{TenantIds: b.refs.tenants, Ids: b.refs.ids})
	for _, row := range rows {
		res := reservation(row)
		b.books.Reservations[res.Ref] = res
	}
	return err
}

func (b *batch) findSettlements(ctx context.Context, q *budgetdb.Queries) error {
	rows, err := q.FindSettlements(ctx, budgetdb.FindSettlementsParams{TenantIds: b.refs.tenants, Ids: b.refs.ids})
	for _, row := range rows {
		set := settlement(row)
		end := b.books.Ends[set.Ref]
		if set.Late {
			end.Late = set
		} else {
			end.Resolution = set
		}
		b.books.Ends[set.Ref] = end
	}
	return err
}

func (b *batch) findRenewals(ctx context.Context, q *budgetdb.Queries) error {
	rows, err := q.FindRenewals(ctx, b.renewals)
	for _, row := range rows {
		r := renewal(row)
		b.books.Renewals[r.RenewalKey] = r
	}
	return err
}

// lookAtRepeated reads, for Reserves that turn out to be repeated, the windows
// that the first one holds in: they are shown, not changed. Those that this
// batch has locked are known already.
func (b *batch) lookAtRepeated(ctx context.Context, tx db.Tx) error {
	var repeated refs
	for i, id := range b.fresh.ids {
		ref := ledger.Ref{Tenant: b.fresh.tenants[i], ID: id}
		if b.books.Reservations[ref] != nil {
			repeated.add(ref)
		}
	}
	if len(repeated.ids) == 0 {
		return nil
	}
	var steps []step
	for i, id := range repeated.ids {
		arg := budgetdb.ReadWindowsParams{TenantID: repeated.tenants[i]}
		for _, key := range b.books.Reservations[ledger.Ref{Tenant: arg.TenantID, ID: id}].Parts {
			if b.books.Windows[key] == nil {
				arg.BudgetIds = append(arg.BudgetIds, key.Budget)
				arg.WindowStarts = append(arg.WindowStarts, key.StartTime())
			}
		}
		if len(arg.BudgetIds) > 0 {
			steps = append(steps, b.readWindows(arg))
		}
	}
	return pipelined(ctx, tx, steps, nil)
}

func (b *batch) readWindows(arg budgetdb.ReadWindowsParams) step {
	return func(ctx context.Context, q *budgetdb.Queries) error {
		rows, err := q.ReadWindows(ctx, arg)
		for _, row := range rows {
			w := window(budgetdb.LockWindowsRow(row))
			b.books.Windows[w.WindowKey] = w
		}
		return err
	}
}

// write says what the ops did, in one round trip.
func (b *batch) write(ctx context.Context, tx db.Tx) error {
	w := &b.books.Writes
	steps := append(b.windowWrites(b.underLock()), b.ledgerWrites(w)...)
	if len(w.Events) == 0 {
		return pipelined(ctx, tx, steps, nil)
	}
	events := make([]*busv1.Event, len(w.Events))
	for i, e := range w.Events {
		events[i] = b.Encode(e)
	}
	return pipelined(ctx, tx, steps, func(ctx context.Context, tx db.Tx) error { return b.Outbox(ctx, tx, events...) })
}

func windowKey(tenant uuid.UUID, budget string, start time.Time) ledger.WindowKey {
	return ledger.WindowKey{Tenant: tenant, Budget: budget, Start: start.UnixMicro()}
}

// changed are the windows whose counters the batch wrote.
func (b *batch) changed() []*ledger.Window {
	out := make([]*ledger.Window, 0, len(b.locked))
	for _, key := range b.locked {
		if w := b.books.Windows[key]; w != nil && w.Changed() {
			out = append(out, w)
		}
	}
	return out
}
