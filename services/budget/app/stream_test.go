package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
)

// faultOf is what a call of its own would have failed with.
func faultOf(f *budgetv1.Failure) error {
	if f == nil {
		return nil
	}
	s := &status.Status{Code: f.GetCode(), Message: f.GetMessage()}
	for _, d := range f.GetDetails() {
		s.Details = append(s.Details, &anypb.Any{TypeUrl: d.GetTypeUrl(), Value: d.GetValue()})
	}
	return rpc.FromStatus(grpcstatus.FromProto(s).Err())
}

func asking(nano int64) *budgetv1.ReserveRequest {
	return &budgetv1.ReserveRequest{ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{}, Amounts: &governancev1.Amounts{CostNano: nano}}
}

// A bad request among many fails alone and as it would by itself; the others
// are held together.
func TestManyReservationsAreAnsweredOneByOne(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 0.000_000_090}})
	client := start(t, d)
	ctx := as(t.Context(), tenant)

	req := &budgetv1.ReserveManyRequest{}
	for range 100 {
		req.Requests = append(req.Requests, asking(1))
	}
	req.Requests[3].ReservationId = "42"
	req.Requests[4].Amounts.CostNano = 0
	req.Requests[5].BudgetId = "nobody's"
	req.Requests[6] = proto.CloneOf(req.Requests[0])
	req.Requests[7] = proto.CloneOf(req.Requests[0])
	req.Requests[7].Amounts.CostNano = 2
	req.Requests[8].DryRun = true
	resp, err := client.ReserveMany(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	granted := 0
	for i, r := range resp.GetResults() {
		err := faultOf(r.GetFailure())
		if r.GetResponse().GetGranted() && i != 8 { // a dry run looks before or after the others
			granted++
		}
		f, _ := fault.As(err)
		switch {
		case i == 3 && (!fault.Is(err, fault.Invalid) || f.Violations[0].Field != "reservation_id"),
			i == 4 && (!fault.HasReason(err, "AMOUNTS_EMPTY") || f.Violations[0].Field != "amounts"),
			i == 5 && !fault.HasReason(err, "BUDGET_NOT_FOUND"),
			i == 6 && !r.GetResponse().GetGranted(),
			i == 7 && !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED"),
			i == 8 && (err != nil || r.GetResponse().GetHold() != nil),
			(i < 3 || i > 8) && err != nil,
			i > 98 && (r.GetResponse().GetGranted() || r.GetResponse().GetReason() != "BUDGET_EXCEEDED"):
			t.Errorf("%d: %v", i, r)
		}
	}
	if granted != 90+1 { // one is a repetition
		t.Errorf("%d granted, want all that fit", granted)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations`); n != 90 {
		t.Errorf("%d reservations, want 90", n)
	}
	if n := dbtest.Count(t, d, `select count(distinct created_at) from fulcrum.reservations`); n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	if _, err := client.ReserveMany(ctx, &budgetv1.ReserveManyRequest{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("none: %v", err)
	}
	if _, err := client.ReserveMany(ctx, &budgetv1.ReserveManyRequest{Requests: append(req.Requests, asking(1))}); !fault.Is(err, fault.Invalid) {
		t.Errorf("101: %v", err)
	}
	if _, err := client.ReserveMany(t.Context(), req); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("without a caller: %v", err)
	}
	balance.Check(t, d.AdminURL)
}

// wire is a stream with its answers by id.
type wire struct {
	grpc.BidiStreamingClient[budgetv1.OperateRequest, budgetv1.OperateResponse]
	t    testing.TB
	came []*budgetv1.OperationResult // with the last response, and not taken yet
}

func (c served) operate(t testing.TB, ctx context.Context) *wire {
	t.Helper()
	s, err := c.Operate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &wire{s, t, nil}
}

// ask sends operations in one message.
func (w *wire) ask(ops ...*budgetv1.Operation) {
	w.t.Helper()
	if err := w.Send(&budgetv1.OperateRequest{Operations: ops}); err != nil {
		w.t.Fatal(err)
	}
}

// next is the next answer.
func (w *wire) next() (*budgetv1.OperationResult, error) {
	for len(w.came) == 0 {
		resp, err := w.Recv()
		if err != nil {
			return nil, err
		}
		w.came = resp.GetResults()
	}
	a := w.came[0]
	w.came = w.came[1:]
	return a, nil
}

// answers are the next answers, by their ids.
func (w *wire) answers(n int) map[string]*budgetv1.OperationResult {
	w.t.Helper()
	answers := make(map[string]*budgetv1.OperationResult)
	for len(answers) < n {
		a, err := w.next()
		if err != nil {
			w.t.Fatalf("after %d answers: %v", len(answers), err)
		}
		answers[a.GetId()] = a
	}
	return answers
}

// runsOutOfTime asks for three, of which the one that has a tenth of a second is
// told first, and that it ran out of it. It returns that one.
func (w *wire) runsOutOfTime() *budgetv1.ReserveRequest {
	w.t.Helper()
	late := asking(5)
	hurried := reserving("hurried", late)
	hurried.Timeout = durationpb.New(100 * time.Millisecond)
	w.ask(reserving("before", asking(1)), hurried, reserving("after", asking(1)))
	a, err := w.next()
	if err != nil || a.GetId() != "hurried" || !fault.Is(faultOf(a.GetFailure()), fault.Deadline) {
		w.t.Fatalf("%v, %v; want the hurried one to run out of time", a, err)
	}
	return late
}

// do sends operations in one message, and returns their answers.
func (w *wire) do(ops ...*budgetv1.Operation) map[string]*budgetv1.OperationResult {
	w.t.Helper()
	w.ask(ops...)
	return w.answers(len(ops))
}

// doEach sends operations in a message each without waiting, and returns their
// answers.
func (w *wire) doEach(ops ...*budgetv1.Operation) map[string]*budgetv1.OperationResult {
	w.t.Helper()
	for _, op := range ops {
		w.ask(op)
	}
	return w.answers(len(ops))
}

func reserving(id string, r *budgetv1.ReserveRequest) *budgetv1.Operation {
	return &budgetv1.Operation{Id: id, Operation: &budgetv1.Operation_Reserve{Reserve: r}}
}

func settling(id, reservation string, usd float64) *budgetv1.Operation {
	return &budgetv1.Operation{Id: id, Operation: &budgetv1.Operation_Settle{Settle: &budgetv1.SettleRequest{
		ReservationId: reservation, IdempotencyKey: "s", Usage: &governancev1.Usage{CostUsd: &usd},
	}}}
}

// A stream does what single calls do, in the order sent and without waiting for
// answers; what is wrong with one operation is its own answer.
func TestAStreamDoesWhatCallsDo(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*wire, ...*budgetv1.Operation) map[string]*budgetv1.OperationResult{
		"in one message": (*wire).do, "in a message each": (*wire).doEach,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doesWhatCallsDo(t, do)
		})
	}
}

func doesWhatCallsDo(t *testing.T, do func(*wire, ...*budgetv1.Operation) map[string]*budgetv1.OperationResult) {
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	for _, id := range []uuid.UUID{tenant, other} {
		publish(t, d, id, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 0.000_000_100}})
	}
	client := start(t, d)
	w := client.operate(t, as(t.Context(), tenant))
	if head, err := w.Header(); err != nil || len(head.Get("fulcrum-max-in-flight")) != 1 {
		t.Errorf("header %v, %v", head, err)
	}
	one, two, three, trial := asking(60), asking(30), asking(50), asking(1)
	trial.DryRun = true
	got := do(w,
		reserving("1", one),
		settling("2", one.GetReservationId(), 0.000_000_040), // builds on an operation without an answer
		reserving("3", two),
		&budgetv1.Operation{Id: "4", Operation: &budgetv1.Operation_Renew{Renew: &budgetv1.RenewRequest{
			ReservationId: two.GetReservationId(), IdempotencyKey: "n", Ttl: durationpb.New(time.Hour)}}},
		&budgetv1.Operation{Id: "5", Operation: &budgetv1.Operation_Release{Release: &budgetv1.ReleaseRequest{
			ReservationId: two.GetReservationId(), IdempotencyKey: "r"}}},
		reserving("6", three), // fits only because of all of these
		reserving("7", asking(20)),
		reserving("8", &budgetv1.ReserveRequest{ReservationId: "42"}),
		&budgetv1.Operation{Id: "9"},
		settling("10", uuid.NewString(), 1),
		reserving("11", asking(-1)),
		reserving("12", trial),
	)
	if !got["1"].GetReserve().GetGranted() || got["2"].GetSettle().GetCharged().GetCostNano() != 40 || !got["3"].GetReserve().GetGranted() ||
		got["4"].GetRenew().GetExpiresAt() == nil || got["5"].GetRelease().GetReleased().GetCostNano() != 30 || !got["6"].GetReserve().GetGranted() {
		t.Errorf("%v", got)
	}
	if r := got["7"].GetReserve(); r.GetGranted() || r.GetRefusedBy().GetRemaining() != 0.000_000_010 {
		t.Errorf("beyond the limit: %v", r)
	}
	if r := got["12"].GetReserve(); r == nil || r.GetHold() != nil {
		t.Errorf("a trial: %v", got["12"])
	}
	for id, want := range map[string]error{"8": fault.Invalid, "9": fault.Invalid, "10": fault.NotFound, "11": fault.Invalid} {
		if err := faultOf(got[id].GetFailure()); !errors.Is(err, want) {
			t.Errorf("operation %s: %v, want %v", id, err, want)
		}
	}
	foreign := client.operate(t, as(t.Context(), other)).do(settling("1", three.GetReservationId(), 0))
	if err := faultOf(foreign["1"].GetFailure()); !fault.Is(err, fault.NotFound) {
		t.Errorf("another tenant's reservation: %v", err)
	}
	if err := w.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after closing: %v", err)
	}
	nobody := client.operate(t, t.Context())
	if _, err := nobody.Recv(); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("without a caller: %v", err)
	}
	nameless := client.operate(t, as(t.Context(), tenant))
	nameless.ask(reserving("1", asking(1)), reserving("", asking(1)))
	if _, err := nameless.Recv(); !fault.Is(err, fault.Invalid) {
		t.Errorf("an operation without an id: %v", err)
	}
	balance.Check(t, d.AdminURL)
}

// What one message asks for shares a commit, and each is answered under its id.
func TestTheOperationsOfAMessageAreCommittedTogether(t *testing.T) {
	t.Parallel()
	const operations = 100
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}})
	w := start(t, d).operate(t, as(t.Context(), tenant))
	var ops []*budgetv1.Operation
	for i := range operations {
		ops = append(ops, reserving(fmt.Sprint(i), asking(1)))
	}
	got := w.do(ops...)
	for _, op := range ops {
		if hold := got[op.GetId()].GetReserve().GetHold(); hold.GetReservationId() != op.GetReserve().GetReservationId() {
			t.Errorf("operation %s was answered with %v", op.GetId(), got[op.GetId()])
		}
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations`); n != operations {
		t.Errorf("%d reservations, want %d", n, operations)
	}
	if n := dbtest.Count(t, d, `select count(distinct created_at) from fulcrum.reservations`); n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	balance.Check(t, d.AdminURL)
}

// locked holds the row locks of a tenant's windows until free is called.
func locked(t *testing.T, d *dbtest.Database, tenant uuid.UUID) (free func()) {
	t.Helper()
	have, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := d.DB.WithTenant(context.WithoutCancel(t.Context()), tenant, func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, `select 1 from fulcrum.budget_windows where tenant_id = $1 for update`, tenant)
			close(have)
			<-release
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-have
	free = sync.OnceFunc(func() { close(release); wg.Wait() })
	t.Cleanup(free)
	return free
}

// What is not wanted any more when its batch begins is not held.
func TestAnOperationThatWaitedTooLongIsNotDone(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}})
	w := start(t, d).operate(t, as(t.Context(), tenant))
	w.do(reserving("first", asking(1)))

	free := locked(t, d, tenant)
	w.ask(reserving("stuck", asking(1)))
	const waiting = `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
	for begin := time.Now(); dbtest.Count(t, d, waiting) == 0; {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("the first operation does not wait for the lock")
		}
	}
	late := w.runsOutOfTime()
	free()
	for id, a := range w.answers(3) {
		if !a.GetReserve().GetGranted() {
			t.Errorf("%s: %v", id, a)
		}
	}
	w.do(reserving("last", asking(1)))
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations where id = $1`, late.GetReservationId()); n != 0 {
		t.Error("it is held all the same")
	}
	balance.Check(t, d.AdminURL)
}

// A database that hangs while a tenant's budgets are loaded for the first time
// keeps nobody beyond his time.
func TestAnOperationOfAColdTenantIsToldItsTimePassed(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}})
	w := start(t, d).operate(t, as(t.Context(), tenant))

	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `begin; lock table fulcrum.config_bundles in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	late := w.runsOutOfTime()
	if _, err := conn.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	for id, a := range w.answers(2) {
		// The load gives up on a lock of a second, which this test holds for a tenth of one.
		if !a.GetReserve().GetGranted() && !fault.Is(faultOf(a.GetFailure()), fault.Down) {
			t.Errorf("%s: %v", id, a)
		}
	}
	if got := w.do(reserving("last", asking(1))); !got["last"].GetReserve().GetGranted() {
		t.Errorf("once it is there: %v", got)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations where id = $1`, late.GetReservationId()); n != 0 {
		t.Error("it is held all the same")
	}
	balance.Check(t, d.AdminURL)
}

// An instance that stops answers what it has read, and says that it stops.
func TestAStreamIsDrained(t *testing.T) {
	t.Parallel()
	const operations = 50
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}})
	client := start(t, d)
	w := client.operate(t, as(t.Context(), tenant))
	w.do(reserving("first", asking(1)))
	for i := range operations {
		w.ask(reserving(fmt.Sprint(i, "a"), asking(1)), reserving(fmt.Sprint(i, "b"), asking(1)))
	}
	a, err := w.next() // so it is in the middle of them
	if err != nil || !a.GetReserve().GetGranted() {
		t.Fatalf("%v, %v", a, err)
	}
	var stopped sync.WaitGroup
	stopped.Go(client.stop)
	answered := 1
	for {
		a, err := w.next()
		if err != nil {
			if !fault.HasReason(err, "STOPPING") {
				t.Errorf("ended with %v", err)
			}
			break
		}
		if !a.GetReserve().GetGranted() && !fault.HasReason(faultOf(a.GetFailure()), "STOPPING") {
			t.Errorf("%v", a)
		}
		if a.GetReserve().GetGranted() {
			answered++
		}
	}
	stopped.Wait()
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations`); int(n) != answered+1 {
		t.Errorf("%d held, %d answered", n, answered+1)
	}
	balance.Check(t, d.AdminURL)
}
