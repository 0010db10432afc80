package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
)

// What clients of a ledger did to one budget, in nano-dollars.
type (
	call struct {
		kind string // reserve, settle, release or expire
		id   int    // of the hold
		n    int64
	}
	reply struct {
		ok          bool  // granted; done
		late        bool  // settle: after the hold had ended
		n           int64 // charged, given back
		shown       bool  // spent and held were shown, by the operation that changed them
		spent, held int64
	}
)

const (
	limitNano = 60
	mostHolds = 60
)

// standing is one budget as one would keep it by hand; comparable.
type standing struct {
	spent, held int64
	holds       [mostHolds]struct {
		n     int64
		state byte // 0 never seen, h held, s settled, r released, x expired; S: charged late
	}
}

// model says which replies a ledger without any concurrency could have given.
var model = porcupine.Model{
	Init: func() any { return standing{} },
	Step: func(state, input, output any) (bool, any) {
		s, c, r := state.(standing), input.(call), output.(reply)
		h := &s.holds[c.id]
		switch c.kind {
		case "reserve":
			if r.ok {
				if s.spent+s.held+c.n > limitNano || h.state != 0 {
					return false, state
				}
				h.n, h.state = c.n, 'h'
				s.held += c.n
			} else if s.spent+s.held+c.n <= limitNano {
				return false, state
			}
		case "settle":
			switch h.state {
			case 'h':
				if r.late {
					return false, state
				}
				s.held -= h.n
				s.spent += c.n
				h.state = 's'
			case 'r', 'x':
				if !r.late {
					return false, state
				}
				s.spent += c.n
				h.state = 'S'
			default:
				return false, state // each hold is settled by one client, once
			}
		case "release":
			switch h.state {
			case 'h':
				if !r.ok || r.n != h.n {
					return false, state
				}
				s.held -= h.n
				h.state = 'r'
			case 'x':
				if !r.ok || r.n != 0 {
					return false, state
				}
			case 's', 'S':
				if r.ok {
					return false, state
				}
			default:
				return false, state // each hold is released by one client, once
			}
		case "expire":
			// ok: the hold was seen to have ended by expiry. Otherwise somebody
			// else had ended it.
			if (h.state == 'h') != r.ok {
				return false, state
			}
			if h.state == 'h' {
				s.held -= h.n
				h.state = 'x'
			}
		}
		if r.shown && (r.spent != s.spent || r.held != s.held) {
			return false, state
		}
		return true, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	DescribeState:     func(state any) string { s := state.(standing); return fmt.Sprintf("spent %d held %d", s.spent, s.held) },
}

// client is one of those who work on a budget, through one of the processes.
type client struct {
	budgetv1.LedgerServiceClient
	id     int
	ctx    context.Context
	record func(porcupine.Operation)
	since  time.Time
}

// op makes a call until it is answered: each has one effect however often it is
// sent, at some moment between its first start and its answer.
func (c *client) op(in call, try func() (reply, error)) (out reply, err error) {
	begin := time.Since(c.since).Nanoseconds()
	for again := false; ; again = true {
		if out, err = try(); err == nil {
			out.shown = out.shown && !again // else what is shown may be of a later moment
			c.record(porcupine.Operation{ClientId: c.id, Input: in, Call: begin, Output: out, Return: time.Since(c.since).Nanoseconds()})
			return out, nil
		}
		if !fault.Is(err, fault.Down) && !fault.Is(err, fault.Deadline) {
			return out, err
		}
	}
}

// told turns what a reply shows of the only budget into nano-dollars.
func told(r reply, budgets []*governancev1.BudgetState) reply {
	if len(budgets) == 1 {
		r.shown, r.spent, r.held = true, nanos(budgets[0].GetSpent()), nanos(budgets[0].GetHeld())
	}
	return r
}

func nanos(dollars float64) int64 { return int64(dollars*1e9 + 0.5) }

func (c *client) reserve(hold int, id string, n int64) (reply, error) {
	return c.op(call{"reserve", hold, n}, func() (reply, error) {
		a, err := c.Reserve(c.ctx, &budgetv1.ReserveRequest{
			ReservationId: id, Subject: &budgetv1.Subject{}, Amounts: &governancev1.Amounts{CostNano: n},
		})
		if by := a.GetRefusedBy(); by != nil {
			return told(reply{}, []*governancev1.BudgetState{by}), err
		}
		return told(reply{ok: a.GetGranted()}, a.GetHold().GetBudgets()), err
	})
}

func (c *client) settle(hold int, id string, n int64) error {
	_, err := c.op(call{"settle", hold, n}, func() (reply, error) {
		usd := float64(n) / 1e9
		a, err := c.Settle(c.ctx, &budgetv1.SettleRequest{ReservationId: id, IdempotencyKey: "s", Usage: &governancev1.Usage{CostUsd: &usd}})
		return told(reply{ok: true, late: a.GetLate(), n: a.GetCharged().GetCostNano()}, a.GetBudgets()), err
	})
	return err
}

func (c *client) release(hold int, id string) error {
	_, err := c.op(call{"release", hold, 0}, func() (reply, error) {
		a, err := c.Release(c.ctx, &budgetv1.ReleaseRequest{ReservationId: id, IdempotencyKey: "r"})
		if fault.HasReason(err, "RESERVATION_SETTLED") {
			return reply{}, nil
		}
		r := told(reply{ok: true, n: a.GetReleased().GetCostNano()}, a.GetBudgets())
		r.shown = r.shown && r.n > 0 // a release that changes nothing locks nothing
		return r, err
	})
	return err
}

// expire lets the hold's time run out, and waits until one of the processes'
// sweeps has come by.
func (c *client) expire(t *testing.T, d *dbtest.Database, hold int, id string) error {
	_, err := c.op(call{"expire", hold, 0}, func() (reply, error) {
		dbtest.Admin(t, d, `update fulcrum.reservations set created_at = now() - interval '2 s', expires_at = now() - interval '1 s' where id = '`+id+`'`)
		for {
			a, err := c.GetReservation(c.ctx, &budgetv1.GetReservationRequest{ReservationId: id})
			if err != nil || a.GetState() != budgetv1.ReservationState_RESERVATION_STATE_HELD {
				return reply{ok: a.GetState() == budgetv1.ReservationState_RESERVATION_STATE_EXPIRED}, err
			}
			moment(c.ctx, 20*time.Millisecond)
		}
	})
	return err
}

// Two processes serve clients of the same budgets, who hold, settle, release and
// let expire, the same holds at the same time. Every reply, and every balance
// shown in it, is one that a single ledger doing one thing after the other could
// have given.
func TestTwoProcessesAreOneLedger(t *testing.T) {
	t.Parallel()
	const clients = 6
	d := dbtest.New(t)
	at := make([]budgetv1.LedgerServiceClient, 2)
	for i := range at {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		ln.Close()
		process(t, d, addr)
		conn, err := rpc.Dial(addr, rpc.DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		at[i] = budgetv1.NewLedgerServiceClient(conn)
		ready(t, as(t.Context(), uuid.Must(uuid.NewV7())), at[i])
	}
	for round := range balance.Long(3, 60) {
		tenant := dbtest.Tenant(t, d)
		publish(t, d, tenant, &costv1.Budget{
			BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: limitNano / 1e9},
			Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_INFINITE},
		})
		var mu sync.Mutex // guards history
		var history []porcupine.Operation
		ids := make([]string, mostHolds)
		for i := range ids {
			ids[i] = uuid.NewString()
		}
		since := time.Now()
		var wg sync.WaitGroup
		for i := range clients {
			newClient := func(process, id int) *client {
				return &client{at[process], id, as(t.Context(), tenant), func(op porcupine.Operation) {
					mu.Lock()
					defer mu.Unlock()
					history = append(history, op)
				}, since}
			}
			wg.Go(func() {
				c, twin := newClient(i%2, 2*i), newClient((i+1)%2, 2*i+1)
				for hold := i; hold < mostHolds; hold += clients {
					n := rand.Int64N(20) + 1
					r, err := c.reserve(hold, ids[hold], n)
					if err != nil {
						t.Errorf("reserve: %v", err)
						return
					}
					if !r.ok {
						continue
					}
					// Through both processes at once, in any combination.
					var both sync.WaitGroup
					way := rand.IntN(4)
					both.Go(func() {
						if way != 1 {
							if err := c.settle(hold, ids[hold], rand.Int64N(n+2)/2); err != nil {
								t.Errorf("settle: %v", err)
							}
						}
					})
					both.Go(func() {
						var err error
						switch way {
						case 0, 1:
							err = twin.release(hold, ids[hold])
						case 2:
							err = twin.expire(t, d, hold, ids[hold])
						}
						if err != nil {
							t.Errorf("release or expire: %v", err)
						}
					})
					both.Wait()
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		switch result, _ := porcupine.CheckOperationsVerbose(model, history, time.Minute); result {
		case porcupine.Illegal:
			for _, op := range history {
				t.Logf("client %d, %d to %d: %s", op.ClientId, op.Call, op.Return, model.DescribeOperation(op.Input, op.Output))
			}
			t.Fatalf("round %d: no order of these %d operations explains the replies", round, len(history))
		case porcupine.Unknown:
			t.Fatalf("round %d: %d operations were too many to check", round, len(history))
		}
	}
	balance.Check(t, d.AdminURL)
}

// A checker that finds nothing proves nothing: it must see a grant too many, a
// charge that is forgotten, and a balance of the past.
func TestTheModelRefusesWhatALedgerMayNotDo(t *testing.T) {
	t.Parallel()
	at := func(client int, from, to int64, in call, out reply) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Call: from, Output: out, Return: to}
	}
	first := at(0, 0, 1, call{"reserve", 0, 40}, reply{ok: true, shown: true, held: 40})
	for name, tt := range map[string]struct {
		history []porcupine.Operation
		legal   bool
	}{
		"what fits":             {[]porcupine.Operation{first, at(1, 2, 3, call{"reserve", 1, 20}, reply{ok: true, shown: true, held: 60})}, true},
		"a grant too many":      {[]porcupine.Operation{first, at(1, 2, 3, call{"reserve", 1, 21}, reply{ok: true})}, false},
		"a false refusal":       {[]porcupine.Operation{first, at(1, 2, 3, call{"reserve", 1, 20}, reply{})}, false},
		"a balance of the past": {[]porcupine.Operation{first, at(1, 2, 3, call{"reserve", 1, 5}, reply{ok: true, shown: true, held: 5})}, false},
		"room that was not given back yet": {[]porcupine.Operation{first, at(1, 2, 3, call{"reserve", 1, 30}, reply{ok: true}),
			at(0, 4, 5, call{"release", 0, 0}, reply{ok: true, n: 40})}, false},
		"room that was given back meanwhile": {[]porcupine.Operation{first, at(1, 2, 6, call{"reserve", 1, 30}, reply{ok: true}),
			at(0, 4, 5, call{"release", 0, 0}, reply{ok: true, n: 40})}, true},
		"a forgotten charge": {[]porcupine.Operation{first, at(0, 2, 3, call{"settle", 0, 40}, reply{ok: true}),
			at(1, 4, 5, call{"reserve", 1, 60}, reply{ok: true})}, false},
		"two ends": {[]porcupine.Operation{first, at(0, 2, 3, call{"settle", 0, 40}, reply{ok: true}),
			at(1, 4, 5, call{"expire", 0, 0}, reply{ok: true})}, false},
	} {
		if got := porcupine.CheckOperations(model, tt.history); got != tt.legal {
			t.Errorf("%s: found legal %v", name, got)
		}
	}
}
