package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func (x *machine) change(t *rapid.T) {
	id := rapid.SampledFrom([]string{"all", "a", "b"}).Draw(t, "budget")
	x.terms[id] = terms{
		limit: drawPair(t, 0, 150), mode: rapid.SampledFrom([]string{"hard", "soft", "throttle"}).Draw(t, "mode"),
		suspended: rapid.IntRange(0, 4).Draw(t, "suspend") == 0, paid: rapid.IntRange(0, 2).Draw(t, "pay") > 0,
		gone: id == "b" && rapid.IntRange(0, 4).Draw(t, "delete") == 0,
	}
	x.configure()
}

func (x *machine) freeze(*rapid.T) {
	x.frozen = !x.frozen
	x.configure()
}

// endPause lets the pauses of throttled budgets be over.
func (x *machine) endPause(t *rapid.T) {
	if !slices.ContainsFunc(x.all, func(b *box) bool { return b.paused }) {
		t.Skip("nothing pauses")
	}
	for _, b := range x.all {
		b.paused = false
	}
	mustAdmin(x.d, fmt.Sprintf(`update fulcrum.budget_windows set throttled_until = 'epoch', version = version + 1 where tenant_id = '%s' and throttled_until > now()`, x.tenant))
}

// passYear makes the window of "a" that is open one of long ago, as if time had
// passed, and starts the instances anew, which know nothing of that.
func (x *machine) passYear(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "pass") > 0 {
		t.Skip("not often: instances take long to start")
	}
	x.fleet.end()
	x.past++
	was := 1970 + x.past
	moved := fmt.Sprintf(`window_start = '%d-01-01Z' where tenant_id = '%s' and budget_id = 'a' and window_start = '%d-01-01Z'; `, was, x.tenant, x.year)
	body := fmt.Sprintf(`update fulcrum.reservations set window_starts = array_replace(window_starts, '%d-01-01Z', '%d-01-01Z') where tenant_id = '%s'; `, x.year, was, x.tenant)
	for _, table := range []string{"ledger_postings", "budget_hours", "budget_notices", "ledger_sums"} {
		body += "update fulcrum." + table + " set " + moved
	}
	mustAdmin(x.d, fmt.Sprintf(`do $$ begin %s update fulcrum.budget_windows set window_end = '%d-01-01Z', %s end $$`, body, was+1, moved))
	x.open["a"].start = newYear(was)
	x.box("a", 80, 95, 100).start = newYear(x.year)
	x.fleet.start(x.d)
}

func (x *machine) topUp(t *rapid.T) {
	x.move(t, ledger.TopUp, account, rapid.Int64Range(1, 120).Draw(t, "cents")*cent)
}

func (x *machine) refund(t *rapid.T) {
	x.move(t, ledger.Refund, account, -x.near(t, rapid.Int64Range(1, 60).Draw(t, "cents")*cent, x.open[account]))
}

func (x *machine) correctAccount(t *rapid.T) {
	x.move(t, ledger.ByHand, rapid.SampledFrom([]string{"all", "a", "b", account}).Draw(t, "account"), drawNonzero(t))
}

func drawNonzero(t *rapid.T) int64 {
	n := rapid.Int64Range(-40, 39).Draw(t, "cents")
	if n >= 0 {
		n++
	}
	return n * cent
}

// move changes an account by hand, and again, as if the reply had been lost.
func (x *machine) move(t *rapid.T, kind ledger.MoveKind, id string, n int64) {
	if n == 0 {
		return
	}
	key, b := uuid.NewString(), x.open[id]
	move := func(n int64) (ledger.Answer, error) {
		return x.do(t, (&ledger.Move{Tenant: x.tenant, Key: key, Kind: kind, Account: id, Cost: n, Reason: "because", Actor: "user:ada"}).Seal())
	}
	a, err := move(n)
	if x.terms[id].gone {
		if !fault.HasReason(err, "BUDGET_NOT_FOUND") {
			t.Fatalf("a deleted budget is corrected: %+v, %v", a, err)
		}
		return
	}
	x.touch(b)
	refused := ""
	switch {
	case kind == ledger.ByHand && b.spent[0]+n < 0:
		refused = "CORRECTION_TOO_LARGE"
	case kind != ledger.ByHand && n < 0 && b.credit-b.spent[0]-x.held(b)[0]+n < 0:
		refused = "WALLET_EXHAUSTED"
	}
	if refused != "" {
		if !fault.HasReason(err, refused) {
			t.Fatalf("%s of %d: %+v, %v; want %s", kind, n, a, err, refused)
		}
		return
	}
	if kind == ledger.ByHand {
		x.spend([]*box{b}, pair{n, 0})
		b.alone += n
		about := b.id
		if !b.wallet() {
			about = "budget:" + b.id
		}
		x.tell("charge_corrected", about, float64(n)/1e9)
	} else {
		debt := b.debt()
		b.credit += n
		b.crossed = min(b.crossed, b.reached())
		x.cross(b, debt)
		x.tell("wallet_moved", b.id, float64(n)/1e9)
	}
	for range 2 {
		if err != nil || a.Movement == nil || a.Movement.Cost != n || b.wallet() && a.Movement.Balance != b.credit-b.spent[0] {
			t.Fatalf("%s of %d: %+v, %v", kind, n, a, err)
		}
		x.shows(t, []*box{b}, a.States...)
		a, err = move(n)
	}
	if _, err := move(n + 1); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
		t.Fatalf("the key with another amount: %v", err)
	}
}

// correctCharge puts a charge right by hand.
func (x *machine) correctCharge(t *rapid.T) {
	h, n := x.pick(t), drawNonzero(t)
	op := byHand(h.ref, n, uuid.NewString())
	a, err := x.do(t, op)
	switch {
	case !h.settled:
		if !fault.HasReason(err, "RESERVATION_NOT_CHARGED") {
			t.Fatalf("one %s is corrected: %+v, %v", h.state, a, err)
		}
	case h.cost+n < 0 || !x.coverable(h, n):
		if !fault.HasReason(err, "CORRECTION_TOO_LARGE") {
			t.Fatalf("a charge of %d is corrected by %d: %+v, %v", h.cost, n, a, err)
		}
	default:
		again, repeated := x.do(t, op)
		if err != nil || repeated != nil || again.Movement.ID != a.Movement.ID {
			t.Fatalf("a charge of %d is corrected by %d: %v; again: %v", h.cost, n, err, repeated)
		}
		x.correct(h, n, true)
		x.shows(t, h.in, a.States...)
		x.tell("charge_corrected", "reservation:"+h.ref.ID.String(), float64(n)/1e9)
	}
}

// coverable reports whether everything a charge is in has as much spent as a
// correction takes back. To know that, the ledger looks at it.
func (x *machine) coverable(h *modelHold, n int64) bool {
	for _, b := range h.in {
		x.touch(b)
	}
	return !slices.ContainsFunc(h.in, func(b *box) bool { return b.spent[0]+n < 0 })
}

// reprice makes a charge cost something else, because of its price.
func (x *machine) reprice(t *rapid.T) {
	h, cost := x.pick(t), rapid.Int64Range(0, 60).Draw(t, "cents")*cent
	a, err := x.do(t, &ledger.Correct{Ref: h.ref, Rerate: uuid.New(), Cost: moneyNano(cost), Version: "v"})
	switch {
	case !h.settled:
		if !fault.HasReason(err, "CHARGE_NOT_FOUND") {
			t.Fatalf("one %s is priced anew: %+v, %v", h.state, a, err)
		}
	case h.byHand || cost == h.cost:
		if err != nil || a.Amounts[amount.Cost] != h.cost {
			t.Fatalf("a charge of %d that stays: %+v, %v", h.cost, a, err)
		}
	case !x.coverable(h, cost-h.cost):
		if !fault.HasReason(err, "CORRECTION_TOO_LARGE") {
			t.Fatalf("a charge of %d is priced anew at %d: %+v, %v", h.cost, cost, a, err)
		}
	default:
		if err != nil || a.Amounts[amount.Cost] != cost {
			t.Fatalf("a charge of %d is priced anew at %d: %+v, %v", h.cost, cost, a, err)
		}
		x.tell("cost_corrected", "reservation:"+h.ref.ID.String(), cost-h.cost)
		x.correct(h, cost-h.cost, false)
	}
}

// units are those of a pair.
var units = [2]amount.Unit{amount.Cost, amount.TotalTokens}

// shows compares what an answer shows of boxes with the model.
func (x *machine) shows(t *rapid.T, in []*box, states ...ledger.State) {
	for _, s := range states {
		i := slices.IndexFunc(in, func(b *box) bool { return b.id == s.Budget })
		unit := slices.Index(units[:], s.Unit)
		if i < 0 || unit < 0 {
			t.Fatalf("%+v is not of %v", s, in)
		}
		b := in[i]
		limit, left := b.limit[unit], int64(0)
		if b.wallet() {
			limit = b.credit
		}
		if n, bounded := x.left(b, unit); bounded {
			left = max(n, 0)
		}
		if s.Limit != limit || s.Spent != b.spent[unit] || s.Held != x.held(b)[unit] || s.Remaining != left || string(s.Status) != x.status(b) {
			t.Fatalf("%+v is shown; the model says limit %d spent %v held %v left %d, %s", s, limit, b.spent, x.held(b), left, x.status(b))
		}
	}
}

// compare looks at everything that the ledger has of the tenant.
func (x *machine) compare(t *rapid.T) {
	var want, got, entries []string
	line := func(id string, start time.Time, n ...int64) string {
		return fmt.Sprint(id, " ", start.UTC().Format("2006"), " ", n)
	}
	for _, b := range x.all {
		held, over := x.held(b), x.over(b)
		if n := [8]int64{b.credit, b.spent[0], b.spent[1], held[0], held[1], over[0], over[1], b.spent[0] - b.alone}; n != [8]int64{} {
			want = append(want, line(b.id, b.start, n[:]...))
		}
	}
	var told []string
	var cost, tokens int64
	err := x.d.DB.Read(t.Context(), x.tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := tx.Query(ctx, windowsAndEntries, x.tenant)
		if err != nil {
			return err
		}
		var of, id string
		var start time.Time
		var n [8]int64
		if _, err := pgx.ForEachRow(rows, []any{&of, &id, &start, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]}, func() error {
			if n != [8]int64{} && of == "counters" {
				got = append(got, line(id, start, n[:]...))
			} else if n != [8]int64{} {
				entries = append(entries, line(id, start, n[:]...))
			}
			return nil
		}); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `select coalesce(sum(cost_nano), 0), coalesce(sum(total_tokens), 0) from fulcrum.spend_rollups where tenant_id = $1`, x.tenant).Scan(&cost, &tokens); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `select seq, event from fulcrum.outbox where tenant_id = $1 and seq > $2 order by seq`, x.tenant, x.seen)
		if err != nil {
			return err
		}
		var raw []byte
		_, err = pgx.ForEachRow(rows, []any{&x.seen, &raw}, func() error {
			e := new(busv1.Event)
			told, x.facts = append(told, said(e, raw)), x.facts+e.GetCost().GetCostNano()
			return nil
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]string{"counters": got, "entries": entries} {
		slices.Sort(want)
		if slices.Sort(list); !slices.Equal(list, want) {
			t.Fatalf("the %s are\n%q\nthe model says\n%q", name, list, want)
		}
	}
	slices.Sort(told)
	if slices.Sort(x.told); !slices.Equal(told, x.told) {
		t.Fatalf("told were\n%q\nthe model tells\n%q", told, x.told)
	}
	x.told = nil
	var charged pair
	for _, h := range x.holds {
		charged = charged.plus(pair{h.cost, h.charged[1]})
	}
	if charged != (pair{cost, tokens}) || x.facts != cost {
		t.Fatalf("the summaries say %d and %d tokens, the facts %d; charged were %v", cost, tokens, x.facts, charged)
	}
}

// windowsAndEntries are, of each window: credit; spent, held and over in money and
// tokens; and what was charged here and elsewhere alike. Once by the counters,
// and the hours; once by the entries.
const windowsAndEntries = `
	select 'counters', w.budget_id, w.window_start, case w.mode when 4 then w.cost_nano_limit else 0 end,
		w.cost_nano_spent, w.total_tokens_spent, w.cost_nano_held, w.total_tokens_held, w.cost_nano_over, w.total_tokens_over,
		coalesce((select sum(h.cost_nano) from fulcrum.budget_hours h where h.tenant_id = w.tenant_id and h.budget_id = w.budget_id and h.window_start = w.window_start), 0)::bigint
	from fulcrum.budget_windows w where w.tenant_id = $1
	union all
	select 'entries', e.budget_id, e.window_start, sum(e.cost_nano * (e.f = 'external')::int - e.cost_nano * (e.t = 'external')::int)::bigint,
		sum(e.cost_nano * (e.t = 'spent')::int - e.cost_nano * (e.f = 'spent')::int)::bigint, sum(e.total_tokens * (e.t = 'spent')::int - e.total_tokens * (e.f = 'spent')::int)::bigint,
		sum(e.cost_nano * (e.t = 'held')::int - e.cost_nano * (e.f = 'held')::int)::bigint, sum(e.total_tokens * (e.t = 'held')::int - e.total_tokens * (e.f = 'held')::int)::bigint,
		sum(e.cost_nano * (e.f = 'overage')::int - e.cost_nano * (e.t = 'overage')::int)::bigint, sum(e.total_tokens * (e.f = 'overage')::int - e.total_tokens * (e.t = 'overage')::int)::bigint,
		sum((e.cost_nano * (e.t = 'spent')::int - e.cost_nano * (e.f = 'spent')::int) * (k.kind <> 'correction' or k.reservation_id is not null)::int)::bigint
	from (select x.budget_id, x.window_start, x.transaction_id, x.from_account as f, x.to_account as t, x.cost_nano, x.total_tokens from fulcrum.ledger_entries x where x.tenant_id = $1) e
	join fulcrum.ledger_transactions k on k.tenant_id = $1 and k.id = e.transaction_id
	group by 2, 3`

// said is an event in the model's words.
func said(e *busv1.Event, raw []byte) string {
	if err := proto.Unmarshal(raw, e); err != nil {
		return err.Error()
	}
	about, detail := e.GetResource(), any("")
	field := func(name string) any { return e.GetPayload().GetFields()[name].AsInterface() }
	switch e.GetType() {
	case "cost_recorded", "cost_corrected":
		detail = e.GetCost().GetCostNano()
	case "budget_warning", "budget_critical", "budget_exceeded":
		start, _ := time.Parse(time.RFC3339, field("window_start").(string))
		detail = fmt.Sprint(field("threshold_percent"), " in ", start.Year())
	case "wallet_low", "wallet_depleted":
		detail = field("low_balance")
	case "wallet_overdrawn":
		detail = field("overdrawn_by")
	case "wallet_moved", "charge_corrected":
		detail = field("amount_usd")
		for _, of := range []string{"wallet", "budget", "reservation"} {
			if id := field(of + "_id"); id != nil {
				about = fmt.Sprint(of, ":", id)
			}
		}
	}
	return fmt.Sprint(e.GetType(), " ", about, " ", detail)
}
