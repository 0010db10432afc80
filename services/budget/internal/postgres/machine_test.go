package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// cent is in nano-USD: the model deals in whole cents, as low balances do.
const cent = 10_000_000

// machine does to the ledger what it does to the model.
type machine struct {
	*model
	d      *dbtest.Database
	tenant uuid.UUID
	fleet  *fleet
	year   int   // of the window of "a" that is open
	past   int   // how many have passed
	seen   int64 // of the outbox
	facts  int64 // nano-USD in its facts of costs
}

// fleet is two instances, which may be started anew.
type fleet struct {
	at   []*instance
	stop []func()
}

func (f *fleet) start(d *dbtest.Database) {
	for range 2 {
		in, stop, err := run(d, lane.Options{}, outboxAppend)
		if err != nil {
			panic(err)
		}
		f.at, f.stop = append(f.at, in), append(f.stop, stop)
	}
}

func (f *fleet) end() {
	for _, stop := range f.stop {
		stop()
	}
	f.at, f.stop = nil, nil
}

// Whatever happens to holds, charges, wallets and budgets in whatever order, the
// ledger stands where the model stands, refuses what the model refuses and for
// the same reason, and tells what the model tells, after every single step.
func TestTheLedgerIsTheModel(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	f := new(fleet)
	f.start(d)
	defer func() { f.end() }()
	rapid.Check(t, func(t *rapid.T) {
		x := &machine{d: d, tenant: dbtestTenant(d), fleet: f, year: time.Now().UTC().Year(), model: &model{
			terms: map[string]terms{"all": {limit: pair{100 * cent, 80}}, "a": {limit: pair{60 * cent, 0}, paid: true}, "b": {limit: pair{40 * cent, 50}, mode: "throttle"}},
			open:  make(map[string]*box),
		}}
		x.configure()
		x.box("all", 80, 95, 100)
		x.box("a", 80, 95, 100).start = newYear(x.year)
		x.box("b", 50, 100)
		x.box(account, 50*cent, 20*cent, 0)
		x.move(t, ledger.TopUp, account, int64(rapid.IntRange(0, 3).Draw(t, "credit"))*60*cent)
		t.Repeat(map[string]func(*rapid.T){
			// Holds most of the time: without them little happens.
			"hold": x.hold, "hold another": x.hold, "hold together": x.holdTogether, "hold more together": x.holdTogether,
			"hold again": x.holdAgain, "renew": x.renew,
			"settle": x.settle, "settle again": x.settleAgain, "charge without a hold": x.chargeDirectly, "release": x.release, "expire": x.expire,
			"change a budget": x.change, "freeze or thaw": x.freeze, "a pause ends": x.endPause, "a year passes": x.passYear,
			"top up": x.topUp, "refund": x.refund, "correct a charge": x.correctCharge, "correct an account": x.correctAccount, "other prices": x.reprice,
			"": x.compare,
		})
	})
	balance.CheckSums(t, d.AdminURL)
}

func newYear(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// configure publishes what the model's terms say.
func (x *machine) configure() {
	x.version++
	bundle := &configv1.BudgetBundle{Wallets: []*walletv1.Wallet{{WalletId: walletID, Name: "acme", Frozen: x.frozen, LowBalanceNano: []int64{20 * cent, 50 * cent}}}}
	for _, id := range []string{"all", "a", "b"} {
		now := x.terms[id]
		if now.gone {
			continue
		}
		b := dollars(id, float64(now.limit[0])/1e9)
		b.Limits.MaxTokens, b.Suspended = now.limit[1], now.suspended
		b.Mode = map[string]costv1.BudgetMode{"soft": costv1.BudgetMode_BUDGET_MODE_SOFT, "throttle": costv1.BudgetMode_BUDGET_MODE_THROTTLE}[now.mode]
		if now.paid {
			b.WalletId = walletID
		}
		if id != "all" {
			b.Scope = &costv1.BudgetScope{AgentId: id}
		}
		switch id {
		case "a":
			b.Period.PeriodType = costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_YEARLY
		case "b":
			b.Thresholds = []*costv1.NotificationThreshold{{ThresholdPercent: 50}, {ThresholdPercent: 100}}
		}
		bundle.Budgets = append(bundle.Budgets, b)
	}
	if err := put(context.Background(), x.d, x.tenant, bundle); err != nil {
		panic(err)
	}
}

func (x *machine) instance(t *rapid.T) *instance {
	return x.fleet.at[rapid.IntRange(0, len(x.fleet.at)-1).Draw(t, "instance")]
}

func (x *machine) do(t *rapid.T, op ledger.Op) (ledger.Answer, error) {
	return x.instance(t).Do(context.Background(), op)
}

func (x *machine) pick(t *rapid.T) *modelHold {
	if len(x.holds) == 0 {
		t.Skip("nothing held yet")
	}
	return x.holds[rapid.IntRange(0, len(x.holds)-1).Draw(t, "of the holds")]
}

func drawAgent(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "agent") }

func drawPair(t *rapid.T, least, most int64) pair {
	return pair{rapid.Int64Range(least, most).Draw(t, "cents") * cent, rapid.Int64Range(0, most).Draw(t, "tokens")}
}

func (x *machine) newHold(t *rapid.T, agent string) *modelHold {
	n := drawPair(t, 1, 40)
	n[0] = x.near(t, n[0], x.drawn(agent)...)
	op := hold(x.tenant, 0)
	op.Subject.AgentID, op.Amounts = agent, n.amounts()
	return &modelHold{ref: op.Ref, op: op.Seal(), in: x.drawn(agent), n: n, state: "held"}
}

// near is n, or sometimes what just fits in one of the boxes, or just does not:
// most mistakes are there.
func (x *machine) near(t *rapid.T, n int64, in ...*box) int64 {
	edge := rapid.IntRange(-2, 1).Draw(t, "edge")
	left, bounded := x.left(in[rapid.IntRange(0, len(in)-1).Draw(t, "box")], 0)
	if edge < 0 || !bounded || left <= 0 {
		return n
	}
	return left + int64(edge)*cent
}

func (x *machine) hold(t *rapid.T) {
	h := x.newHold(t, drawAgent(t))
	a, err := x.do(t, h.op)
	x.answered(t, h, a, err)
}

// holdTogether sends an agent's holds in one batch, which decides them one after
// the other.
func (x *machine) holdTogether(t *rapid.T) {
	var ops []ledger.Op
	var holds []*modelHold
	agent := drawAgent(t)
	for range rapid.IntRange(2, 4).Draw(t, "holds") {
		h := x.newHold(t, agent)
		holds, ops = append(holds, h), append(ops, h.op)
	}
	results, err := x.instance(t).store.Flush(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range holds {
		x.answered(t, h, results[i].Value, results[i].Err)
	}
}

// answered compares an answer to a hold with what the model has to say to it.
func (x *machine) answered(t *rapid.T, h *modelHold, a ledger.Answer, err error) {
	want := x.ask(h.in, h.n)
	if err != nil || a.Granted != want.granted || a.Held != want.granted || a.Reason != want.reason {
		t.Fatalf("hold %v: %+v, %v; the model says %+v", h.n, a, err, want)
	}
	if want.granted {
		x.holds = append(x.holds, h)
		var warned []string
		for _, s := range a.Warnings {
			warned = append(warned, s.Budget)
		}
		if fmt.Sprint(warned) != fmt.Sprint(want.warned) || want.wait != (a.RetryAfter == time.Minute) || !want.wait && a.RetryAfter != 0 {
			t.Fatalf("hold %v is granted with the warnings %v and a pause of %v; the model says %+v", h.n, warned, a.RetryAfter, want)
		}
		return // later ones of the batch are in the states already
	}
	by := a.RefusedBy
	if by.Budget != want.by.id || want.unit >= 0 && by.Unit != units[want.unit] || a.Retryable != want.again || a.Suggested != want.suggested.amounts() {
		t.Fatalf("hold %v is refused by %+v, retryable %v, suggesting %v; the model says %+v by %s", h.n, by, a.Retryable, a.Suggested, want, want.by.id)
	}
	if want.wait != (a.RetryAfter > 0 && a.RetryAfter <= time.Minute) || by.Requested != h.n.amounts()[by.Unit] || by.ResetsAt.IsZero() == (by.Budget == "a") {
		t.Fatalf("hold %v is refused by %+v for %v; the model says %+v", h.n, by, a.RetryAfter, want)
	}
	x.shows(t, []*box{want.by}, *by)
}

func (x *machine) holdAgain(t *rapid.T) {
	h := x.pick(t)
	if h.op == nil {
		if _, err := x.do(t, (&ledger.Reserve{Ref: h.ref, TTL: time.Minute, Amounts: nano(1)}).Seal()); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
			t.Fatalf("a hold under the id of a charge: %v", err)
		}
		return
	}
	again := *h.op
	a, err := x.do(t, &again)
	if gone := h.state == "released" || h.state == "expired"; gone != fault.Is(err, fault.Precondition) || !gone && (err != nil || !a.Granted) {
		t.Fatalf("one %s is asked for again: %+v, %v", h.state, a, err)
	}
	x.shows(t, h.in, a.States...)
	again.Amounts = h.n.plus(pair{1, 0}).amounts()
	if _, err := x.do(t, again.Seal()); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
		t.Fatalf("again with another amount: %v", err)
	}
}

func (x *machine) renew(t *rapid.T) {
	h := x.pick(t)
	_, err := x.do(t, &ledger.Renew{Ref: h.ref, Key: uuid.NewString(), TTL: time.Minute})
	if (h.state == "held") != (err == nil) {
		t.Fatalf("renewal of one %s: %v", h.state, err)
	}
}

func charging(ref ledger.Ref, n pair) *ledger.Settle {
	return (&ledger.Settle{
		Ref: ref, Key: "settle-" + ref.ID.String(), Usage: &ledger.Usage{Cost: moneyNano(n[0]), CostKnown: true, Input: n[1]},
	}).Seal()
}

func (x *machine) settle(t *rapid.T) {
	h, n := x.pick(t), drawPair(t, 0, 60) // may be more than was held
	op := charging(h.ref, n)
	if rapid.IntRange(0, 4).Draw(t, "as held") == 0 {
		n, op.Usage = h.n, nil
		op.Seal()
	}
	x.end(t, h, op, n)
}

func (x *machine) settleAgain(t *rapid.T) {
	h := x.pick(t)
	x.end(t, h, charging(h.ref, h.charged), h.charged)
}

// end charges n by op to a hold in whatever state it is.
func (x *machine) end(t *rapid.T, h *modelHold, op *ledger.Settle, n pair) {
	a, err := x.do(t, op)
	switch {
	case h.settled && op.Usage != nil && n == h.charged && !h.asHeld, h.settled && op.Usage == nil && h.asHeld:
		if err != nil || a.Amounts != n.amounts() || a.Late != h.late {
			t.Fatalf("settled again: %+v, %v", a, err)
		}
	case h.settled:
		if !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
			t.Fatalf("settled again with another usage: %v", err)
		}
	default:
		if err != nil || a.Amounts != n.amounts() || a.Late != (h.state != "held") || a.Overrun != n.above(h.n).amounts() {
			t.Fatalf("one %s is settled: %+v, %v", h.state, a, err)
		}
		x.charge(h, n, op.Usage == nil)
	}
	x.shows(t, h.in, a.States...)
}

// chargeDirectly charges what nobody held: what happened is charged, limit or
// not, and once.
func (x *machine) chargeDirectly(t *rapid.T) {
	agent, n := drawAgent(t), drawPair(t, 0, 30)
	h := &modelHold{ref: ledger.Ref{Tenant: x.tenant, ID: uuid.Must(uuid.NewV7())}, in: x.drawn(agent), state: "held"}
	for range 2 {
		op := charging(h.ref, n)
		op.Subject = &catalog.Subject{AgentID: agent}
		if a, err := x.do(t, op); err != nil || a.Amounts != n.amounts() || a.Late {
			t.Fatalf("charge of %v: %+v, %v", n, a, err)
		}
	}
	x.holds = append(x.holds, h)
	x.charge(h, n, false)
}

func (x *machine) release(t *rapid.T) {
	h := x.pick(t)
	op := &ledger.Release{Ref: h.ref, Key: "r", Actor: rapid.SampledFrom([]string{"", "user:ada"}).Draw(t, "by"), Reason: "stuck"}
	a, err := x.do(t, op)
	switch {
	case h.settled:
		if !fault.HasReason(err, "RESERVATION_SETTLED") {
			t.Fatalf("release after a charge: %v", err)
		}
		return
	case h.state == "expired":
		if err != nil || !a.Amounts.IsZero() {
			t.Fatalf("release after expiry: %+v, %v", a, err)
		}
	default:
		if err != nil || a.Amounts != h.n.amounts() {
			t.Fatalf("release of one %s: %+v, %v", h.state, a, err)
		}
		if h.state == "held" {
			x.giveBack(h, "released")
			if op.Actor != "" {
				x.tell("hold_released", "reservation:"+h.ref.ID.String(), "")
			}
		}
	}
	x.shows(t, h.in, a.States...)
}

func (x *machine) expire(t *rapid.T) {
	h := x.pick(t)
	early := rapid.Bool().Draw(t, "early")
	if !early {
		mustAdmin(x.d, fmt.Sprintf(`update fulcrum.reservations set created_at = now() - interval '2 s', expires_at = now() - interval '1 s' where id = '%s'`, h.ref.ID))
	}
	a, err := x.do(t, &ledger.Expire{Ref: h.ref})
	if err != nil || a.Amounts.IsZero() != (early || h.state != "held") {
		t.Fatalf("expiry of one %s (early %v): %+v, %v", h.state, early, a, err)
	}
	if !early && h.state == "held" {
		x.giveBack(h, "expired")
		x.tell("hold_expired", "reservation:"+h.ref.ID.String(), "")
	}
}

func (x *machine) giveBack(h *modelHold, state string) {
	for _, b := range h.in {
		x.touch(b)
	}
	h.state = state
}
