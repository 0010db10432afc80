package ledger_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// shelf is a ledger without a database: one tenant, one op at a time.
type shelf struct {
	t      *testing.T
	books  ledger.Books
	tenant uuid.UUID
	prices []price.Price
	events []ledger.Event
}

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, budgets ...*catalog.Budget) *shelf {
	s := &shelf{t: t, tenant: uuid.New()}
	s.books = ledger.Books{
		Now:          noon,
		Catalogs:     make(map[uuid.UUID]*catalog.Catalog),
		Windows:      make(map[ledger.WindowKey]*ledger.Window),
		Reservations: make(map[ledger.Ref]*ledger.Reservation),
		Ends:         make(map[ledger.Ref]ledger.End),
		Renewals:     make(map[ledger.RenewalKey]*ledger.Renewal),
		Slices:       make(map[ledger.Ref]*ledger.Slice),
		Corrections:  make(map[ledger.Ref][]*ledger.Correction),
		Movements:    make(map[ledger.MovementKey]*ledger.Movement),
	}
	s.configure(1, budgets...)
	return s
}

func (s *shelf) configure(version int64, budgets ...*catalog.Budget) {
	s.t.Helper()
	for _, b := range budgets {
		if b.Period.Kind == 0 {
			b.Period = calendar.Period{Kind: calendar.Daily, Zone: time.UTC}
		}
		if b.Thresholds == nil {
			b.Thresholds = []int32{8000, 9500, 10000}
		}
		if b.Mode == 0 {
			b.Mode = catalog.Hard
		}
		b.Name = "budget " + b.ID
	}
	cat, err := catalog.New(s.tenant, version, time.UTC, budgets, price.NewTable(s.prices))
	if err != nil {
		s.t.Fatal(err)
	}
	s.books.Catalogs[s.tenant] = cat
}

// do runs one op as a store would, and collects its events.
func (s *shelf) do(op ledger.Op) (ledger.Answer, error) {
	for _, d := range op.Prepare(&s.books) {
		if s.books.Windows[d.Key] == nil {
			s.books.Windows[d.Key] = ledger.NewWindow(d, s.books.Catalogs[s.tenant].Version)
		}
	}
	a, err := op.Apply(&s.books)
	s.events = append(s.events, s.books.Writes.Events...)
	s.books.Writes = ledger.Writes{}
	return a, err
}

func (s *shelf) must(op ledger.Op) ledger.Answer {
	s.t.Helper()
	a, err := s.do(op)
	if err != nil {
		s.t.Fatalf("%T: %v", op, err)
	}
	return a
}

func (s *shelf) hold(n int64) *ledger.Reserve {
	return s.reserve(amount.Amounts{amount.Cost: n})
}

func (s *shelf) reserve(a amount.Amounts) *ledger.Reserve {
	a[amount.TotalTokens] = a[amount.InputTokens] + a[amount.OutputTokens]
	return (&ledger.Reserve{Ref: ledger.Ref{Tenant: s.tenant, ID: uuid.New()}, TTL: time.Minute, Amounts: a}).Seal()
}

func charge(r ledger.Ref, n int64) *ledger.Settle {
	return (&ledger.Settle{Ref: r, Key: "k", Usage: &ledger.Usage{Cost: money.Nano(n), CostKnown: true}}).Seal()
}

func (s *shelf) spend(n int64) ledger.Answer {
	s.t.Helper()
	r := s.hold(n)
	s.must(r)
	return s.must(charge(r.Ref, n))
}

func (s *shelf) named(of ...ledger.EventType) (out []ledger.EventType) {
	for _, e := range s.events {
		if len(of) == 0 || slices.Contains(of, e.Type) {
			out = append(out, e.Type)
		}
	}
	return out
}

func cost(n int64) amount.Amounts { return amount.Amounts{amount.Cost: n} }

func TestEachThresholdIsAnnouncedOnceInAWindow(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(100)})
	crossings := []ledger.EventType{ledger.BudgetWarning, ledger.BudgetCritical, ledger.BudgetExceeded}
	expect := func(when string, want ...ledger.EventType) {
		t.Helper()
		if got := s.named(crossings...); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	s.spend(79)
	expect("at 79 %")
	s.must(s.hold(20))
	expect("what is held is not spent")
	s.spend(1)
	expect("at 80 %", ledger.BudgetWarning)
	s.books.Reservations, s.books.Windows[key(s, "b")].Held = map[ledger.Ref]*ledger.Reservation{}, amount.Amounts{}
	s.spend(10)
	expect("at 90 %", ledger.BudgetWarning)
	s.spend(10)
	expect("at 100 %: what was jumped over is said too", crossings...)
	s.books.Now = noon.AddDate(0, 0, 1)
	s.spend(100)
	expect("a new window begins anew", append(slices.Clone(crossings), crossings...)...)
}

func key(s *shelf, budget string) ledger.WindowKey {
	for k := range s.books.Windows {
		if k.Budget == budget {
			return k
		}
	}
	s.t.Fatalf("no window of budget %s", budget)
	return ledger.WindowKey{}
}

func TestOverTheLimitEachModeDoesItsOwn(t *testing.T) {
	t.Parallel()
	t.Run("hard refuses and says why", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
		s.spend(4)
		s.must(s.hold(3))
		a := s.must(s.hold(4))
		want := ledger.State{
			Budget: "b", Name: "budget b", Period: calendar.Daily, Unit: amount.Cost, Limit: 10, Spent: 4, Held: 3, Remaining: 3, Requested: 4,
			ResetsAt: time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC), Status: ledger.OK,
		}
		if a.Granted || a.Reason != ledger.ReasonExceeded || *a.RefusedBy != want {
			t.Errorf("%+v, %+v", a, a.RefusedBy)
		}
		if !strings.Contains(a.Message, "2026-03-11T00:00:00Z") || !strings.Contains(a.Message, "budget b") {
			t.Errorf("message %q", a.Message)
		}
	})
	t.Run("soft allows and warns", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Limits: cost(10), Mode: catalog.Soft})
		s.spend(9)
		a := s.must(s.hold(4))
		if !a.Granted || !a.Held || len(a.Warnings) != 1 || a.Warnings[0].Held != 4 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("throttle lets one through at a time", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Limits: cost(86_400), Mode: catalog.Throttle})
		s.spend(86_400)
		a := s.must(s.hold(5)) // a day for 86400 is a second for each
		if !a.Granted || a.RetryAfter != 5*time.Second {
			t.Fatalf("first over the limit: %+v", a)
		}
		if a := s.must(s.hold(5)); a.Granted || a.Reason != ledger.ReasonThrottled || a.RetryAfter != 5*time.Second {
			t.Errorf("at once: %+v", a)
		}
		s.books.Now = s.books.Now.Add(5 * time.Second)
		if a := s.must(s.hold(5)); !a.Granted {
			t.Errorf("after the pause: %+v", a)
		}
	})
	t.Run("suspended refuses everything", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Suspended: true, Limits: cost(10)})
		if a := s.must(s.reserve(amount.Amounts{amount.ToolCalls: 1})); a.Granted || a.Reason != ledger.ReasonSuspended || a.RefusedBy.Status != ledger.Suspended {
			t.Errorf("%+v", a)
		}
	})
	t.Run("all or none", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "wide", Limits: cost(100)}, &catalog.Budget{ID: "narrow", Limits: amount.Amounts{amount.ToolCalls: 1}})
		one := s.reserve(amount.Amounts{amount.Cost: 1, amount.ToolCalls: 1})
		s.must(one)
		if a := s.must(s.reserve(amount.Amounts{amount.Cost: 1, amount.ToolCalls: 1})); a.Granted || a.RefusedBy.Unit != amount.ToolCalls {
			t.Fatalf("%+v", a)
		}
		if w := s.books.Windows[key(s, "wide")]; w.Held[amount.Cost] != 1 {
			t.Errorf("a refused action left %d held", w.Held[amount.Cost])
		}
	})
}

func TestAChargeIsRecordedInFull(t *testing.T) {
	t.Parallel()
	t.Run("beyond its hold and the limit", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
		r := s.hold(8)
		s.must(r)
		a := s.must(charge(r.Ref, 15))
		if a.Overrun != cost(7) || a.States[0].Spent != 15 || a.States[0].Status != ledger.Exceeded {
			t.Errorf("%+v", a)
		}
		w := s.books.Windows[key(s, "b")]
		if w.Over != cost(5) {
			t.Errorf("over %v, want 5", w.Over)
		}
		if got := s.named(ledger.BudgetOverrun, ledger.BudgetExceeded); len(got) != 2 {
			t.Errorf("events %v", s.named())
		}
		if a := s.must(s.hold(1)); a.Granted {
			t.Error("granted beyond an exceeded limit")
		}
	})
	t.Run("after the hold expired", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
		r := s.hold(8)
		s.must(r)
		s.books.Now = noon.Add(time.Hour)
		s.must(&ledger.Expire{Ref: r.Ref})
		if w := s.books.Windows[key(s, "b")]; !w.Held.IsZero() {
			t.Fatalf("held %v after expiry", w.Held)
		}
		if a := s.must(charge(r.Ref, 6)); !a.Late || a.States[0].Spent != 6 {
			t.Errorf("%+v", a)
		}
		if a := s.must(charge(r.Ref, 6)); !a.Late || a.States[0].Spent != 6 {
			t.Errorf("again: %+v", a)
		}
	})
	t.Run("in the window of its hold", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
		r := s.hold(8)
		s.must(r)
		s.books.Now = noon.AddDate(0, 0, 1)
		if a := s.must(charge(r.Ref, 6)); a.States[0].ResetsAt != time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC) {
			t.Errorf("%+v", a)
		}
		if a := s.must(s.hold(10)); !a.Granted {
			t.Errorf("yesterday's charge fills today's window: %+v", a)
		}
	})
	t.Run("without a hold", func(t *testing.T) {
		s := open(t, &catalog.Budget{ID: "b", Limits: cost(10), Scope: catalog.Scope{Team: "x"}})
		for _, team := range []string{"x", "nobody's"} {
			op := charge(ledger.Ref{Tenant: s.tenant, ID: uuid.New()}, 3)
			if _, err := s.do(op); !fault.Is(err, fault.NotFound) {
				t.Errorf("without a subject: %v", err)
			}
			op.Subject = &catalog.Subject{Team: team}
			if a := s.must(op); a.Amounts != cost(3) {
				t.Errorf("team %s: %+v", team, a)
			}
		}
		if got := s.named(ledger.CostRecorded); len(got) != 2 {
			t.Errorf("events %v", got)
		}
		if w := s.books.Windows[key(s, "b")]; w.Spent != cost(3) {
			t.Errorf("spent %v", w.Spent)
		}
	})
}

func TestChangingABudgetKeepsItsUsage(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(100)})
	s.spend(60)
	s.configure(2, &catalog.Budget{ID: "b", Limits: cost(50)})
	if a := s.must(s.hold(1)); a.Granted || a.RefusedBy.Limit != 50 || a.RefusedBy.Spent != 60 {
		t.Errorf("lowered: %+v", a.RefusedBy)
	}
	if w := s.books.Windows[key(s, "b")]; w.Over != cost(10) {
		t.Errorf("over %v, want 10", w.Over)
	}
	s.configure(1, &catalog.Budget{ID: "b", Limits: cost(100)})
	if a := s.must(s.hold(1)); a.Granted {
		t.Error("an instance with an older configuration went by it")
	}
	s.configure(3, &catalog.Budget{ID: "b", Limits: cost(61)})
	if a := s.must(s.hold(1)); !a.Granted {
		t.Errorf("raised: %+v", a)
	}
}

func TestAnEnvelopesLimitsAreABudget(t *testing.T) {
	t.Parallel()
	s := open(t)
	r := func() *ledger.Reserve {
		r := s.reserve(amount.Amounts{amount.LLMCalls: 1, amount.Cost: 1})
		r.Envelopes = []catalog.EnvelopeLimits{
			{EnvelopeID: "child", Limits: amount.Amounts{amount.LLMCalls: 5}},
			{EnvelopeID: "parent", Limits: amount.Amounts{amount.LLMCalls: 1}},
			{EnvelopeID: "free"},
			{EnvelopeID: "child", Limits: amount.Amounts{amount.LLMCalls: 5}}, // named twice, counted once
		}
		return r.Seal()
	}
	first := r()
	if a := s.must(first); len(a.States) != 2 {
		t.Fatalf("%+v", a)
	}
	if a := s.must(r()); a.Granted || a.RefusedBy.Budget != catalog.EnvelopeBudget("parent") || !a.RefusedBy.ResetsAt.IsZero() {
		t.Errorf("%+v", a)
	}
	s.must(charge(first.Ref, 1))
	if got := s.named(ledger.BudgetExceeded); len(got) != 1 {
		t.Errorf("events %v", s.named())
	}
}

func TestTheWorstCostIsHeldAndTheRealOneCharged(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(1_000_000_000)})
	s.prices = []price.Price{{Model: "own", Input: 1_000_000, Output: 2_000_000, Cached: 100_000, Reasoning: 4_000_000, PerCall: 7, Version: "mine", From: noon.AddDate(-1, 0, 0)}}
	s.configure(2, &catalog.Budget{ID: "b", Limits: cost(1_000_000_000)})
	ask := func(model string) *ledger.Reserve {
		r := s.reserve(amount.Amounts{amount.InputTokens: 1000, amount.OutputTokens: 500, amount.LLMCalls: 1})
		r.Subject.Model = model
		return r.Seal()
	}
	r := ask("own")
	if a := s.must(r); a.Amounts[amount.Cost] != 1000*1+500*4+7 || a.PriceVersion != "mine" {
		t.Errorf("Reserve: %+v", a)
	}
	use := (&ledger.Settle{Ref: r.Ref, Key: "k", Usage: &ledger.Usage{Input: 1000, Cached: 400, Output: 500, Reasoning: 100}}).Seal()
	// cached 400 x 0.1, the rest of the input 600 x 1, reasoning 100 x 4, the rest of the output 400 x 2, the call
	if a := s.must(use); a.Amounts[amount.Cost] != 40+600+400+800+7 || a.Amounts[amount.LLMCalls] != 1 {
		t.Errorf("Settle: %+v", a)
	}
	if a := s.must(ask("never-heard-of")); a.Granted || a.Reason != ledger.ReasonUnpriced || !strings.Contains(a.Message, "never-heard-of") {
		t.Errorf("unknown model: %+v", a)
	}
	stated := ask("never-heard-of")
	stated.Amounts[amount.Cost] = 5
	if a := s.must(stated.Seal()); !a.Granted || a.Amounts[amount.Cost] != 5 {
		t.Errorf("unknown model with its cost: %+v", a)
	}
	// Used without a price and without a cost: what was held is charged.
	if a := s.must((&ledger.Settle{Ref: stated.Ref, Key: "k", Usage: &ledger.Usage{Input: 1}}).Seal()); a.Amounts[amount.Cost] != 5 || a.PriceVersion != ledger.HeldVersion {
		t.Errorf("unknown model settled: %+v", a)
	}
}

func TestCountersNeverOverflow(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Mode: catalog.Soft, Limits: cost(1)})
	var refused bool
	for range 12 {
		r := s.hold(amount.Most)
		if _, err := s.do(r); err != nil {
			refused = fault.Is(err, fault.Invalid)
		}
	}
	if w := s.books.Windows[key(s, "b")]; !refused || w.Held[amount.Cost] < 0 {
		t.Errorf("refused %v, held %v", refused, w.Held)
	}
	small := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
	r := small.hold(1)
	small.must(r)
	if _, err := small.do(charge(r.Ref, -1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a negative charge: %v", err)
	}
}

func TestADeletedBudgetStillGetsWhatItHeld(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
	r := s.hold(8)
	s.must(r)
	s.configure(2)
	if a := s.must(charge(r.Ref, 5)); a.States[0].Spent != 5 || a.States[0].Held != 0 {
		t.Errorf("%+v", a)
	}
	if a := s.must(s.hold(100)); !a.Granted || a.Held {
		t.Errorf("without budgets: %+v", a)
	}
}

func TestAKeyRenewsOnce(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
	r := s.hold(8)
	s.must(r)
	s.books.Now = noon.Add(30 * time.Second)
	first := s.must(&ledger.Renew{Ref: r.Ref, Key: "a", TTL: time.Minute})
	s.books.Now = noon.Add(45 * time.Second)
	if again := s.must(&ledger.Renew{Ref: r.Ref, Key: "a", TTL: time.Minute}); again.ExpiresAt != first.ExpiresAt {
		t.Errorf("the same key moved the expiry again: %v, %v", first.ExpiresAt, again.ExpiresAt)
	}
	if _, err := s.do(&ledger.Renew{Ref: r.Ref, Key: "a", TTL: time.Hour}); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
		t.Errorf("the same key with another time: %v", err)
	}
	if a := s.must(&ledger.Expire{Ref: r.Ref}); !a.Amounts.IsZero() {
		t.Error("a renewed hold expired early")
	}
}
