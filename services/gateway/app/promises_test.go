package app_test

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/app"
)

// The test binary is also the gateway that tests kill.
func TestMain(m *testing.M) {
	if os.Getenv("GATEWAY_OF_TEST") != "" {
		service.Main("gateway", app.Run)
		return
	}
	os.Exit(m.Run())
}

const (
	allowed = governancev1.Decision_DECISION_ALLOW
	warned  = governancev1.Decision_DECISION_WARN
	asks    = governancev1.Decision_DECISION_REQUIRE_APPROVAL
	denied  = governancev1.Decision_DECISION_DENY
)

// recorded asserts how many decisions of Authorize there are.
func recorded(t *testing.T, w *world, want int64) {
	t.Helper()
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions where method = 'authorize'`); n != want {
		t.Errorf("%d decisions are recorded, want %d", n, want)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'decision_made' and event like '%authorize%'`); n != want {
		t.Errorf("%d decision events are recorded, want %d", n, want)
	}
}

// Two gateways and many callers may fight over one idempotency key: there is
// one decision and one hold, and everybody hears of that one.
func TestARaceForOneKeyHasOneDecisionAndOneHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	ctx := as(t, w.key(w.tenant, "*"))
	for _, g := range gateways {
		ready(t, g)
	}
	for range 5 {
		req := toolCall("")
		answers := make([]string, 24)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				resp, err := governanceOf(gateways[i%2]).Authorize(ctx, req)
				if err != nil {
					t.Errorf("caller %d: %v", i, err)
					return
				}
				answers[i] = resp.GetDecisionId() + " " + resp.GetHold().GetReservationId()
			})
		}
		all.Wait()
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("two answers: %q and %q", answers[0], a)
			}
		}
	}
	recorded(t, w, 5)
	if held := w.ledger.count("HELD"); held != 5 {
		t.Errorf("%d holds", held)
	}
}

// The same key with another body is refused, whoever comes first, and leaves
// no hold behind.
func TestARaceOfTwoBodiesForOneKeyHasOneWinner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	ctx := as(t, w.key(w.tenant, "*"))
	for _, g := range gateways {
		ready(t, g)
	}
	for range 5 {
		one, two := toolCall(""), toolCall("")
		two.IdempotencyKey, two.Action.Name = one.GetIdempotencyKey(), "another_tool"
		var won, lost int
		var mu sync.Mutex
		var all sync.WaitGroup
		for i, req := range []*governancev1.AuthorizeRequest{one, two} {
			all.Go(func() {
				_, err := governanceOf(gateways[i]).Authorize(ctx, req)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
				case fault.Is(err, fault.Conflict) && fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED"):
					lost++
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won != 1 || lost != 1 {
			t.Errorf("%d won, %d lost", won, lost)
		}
	}
	recorded(t, w, 5)
	if held := w.ledger.count("HELD"); held != 5 {
		t.Errorf("%d holds", held)
	}
}

// A caller who hears nothing asks again, and finds the hold of its first try.
func TestALostCallLeavesOneHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	ctx := as(t, w.key(w.tenant, "*"))
	req := toolCall("")

	hanging, give := context.WithCancel(ctx)
	w.ledger.reserves(func(r *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		w.ledger.holds[r.GetReservationId()] = "HELD"
		w.ledger.reserve = nil
		give() // the caller hangs up while its money is being held
		time.Sleep(50 * time.Millisecond)
		return &budgetv1.ReserveResponse{Granted: true, Hold: &governancev1.Hold{ReservationId: r.GetReservationId()}}, nil
	})
	if _, err := governanceOf(g).Authorize(hanging, req); err == nil {
		t.Fatal("the call that was given up was answered")
	}
	resp, err := governanceOf(g).Authorize(ctx, req)
	if err != nil || resp.GetDecision() != allowed {
		t.Fatal(resp, err)
	}
	recorded(t, w, 1)
	if held := w.ledger.count("HELD"); held != 1 {
		t.Errorf("%d holds", held)
	}
}

// child is a gateway in a process of its own, and how to kill it.
func (w *world) child() (g *gateway, kill func()) {
	w.t.Helper()
	grpcLn := listen(w.t)
	addr := grpcLn.Addr().String()
	grpcLn.Close()
	child := exec.CommandContext(w.t.Context(), os.Args[0])
	child.Env = append(os.Environ(),
		"GATEWAY_OF_TEST=1", "GATEWAY_GRPC_ADDR="+addr, "GATEWAY_HTTP_ADDR=127.0.0.1:0", "GATEWAY_OPS_ADDR=127.0.0.1:0",
		"POSTGRES_CONN_STR="+w.db.AppURL, "NATS_URL="+os.Getenv("TEST_NATS_URL"), "REDIS_URL="+os.Getenv("TEST_REDIS_URL"),
		"FULCRUM_INTERNAL_TOKEN="+token, "FULCRUM_KEY_PEPPER="+pepper, "LOG_LEVEL=error",
		"POLICY_ENGINE_URL="+w.peers, "BUDGET_URL="+w.peers, "CONTROL_PLANE_URL="+w.peers, "EVENT_PROCESSOR_URL="+w.peers, "AUDIT_URL="+w.peers)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		w.t.Fatal(err)
	}
	conn, err := rpc.Dial(addr, rpc.DialOptions{Public: true, Timeout: 20 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return &gateway{conn: conn}, sync.OnceFunc(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
}

// The gateway is killed after the hold and before the record. There is no yes
// without a record, and the next try takes the hold over.
func TestAKillBetweenHoldAndRecordLeavesNoYes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doomed, kill := w.child()
	ready(t, doomed)

	ctx := as(t, w.key(w.tenant, "*"))
	req := toolCall("")
	w.ledger.reserves(func(r *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		w.ledger.holds[r.GetReservationId()] = "HELD"
		w.ledger.reserve = nil
		kill()
		return &budgetv1.ReserveResponse{Granted: true, Hold: &governancev1.Hold{ReservationId: r.GetReservationId()}}, nil
	})
	if resp, err := governanceOf(doomed).Authorize(ctx, req); err == nil {
		t.Fatalf("a killed gateway answered %v", resp)
	}
	recorded(t, w, 0)

	g := w.gateway()
	ready(t, g)
	resp, err := governanceOf(g).Authorize(ctx, req)
	if err != nil || resp.GetDecision() != allowed {
		t.Fatal(resp, err)
	}
	recorded(t, w, 1)
	if held := w.ledger.count("HELD"); held != 1 {
		t.Errorf("%d holds", held)
	}
}

// A decision that cannot be recorded is none: the caller hears UNAVAILABLE, the
// hold is given back, and the next try gets a hold of its own.
func TestADecisionThatCannotBeRecordedIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	ctx := as(t, w.key(w.tenant, "*"))
	req := toolCall("")

	dbtest.Admin(t, w.db, `alter table fulcrum.decisions add constraint refuse_all check (false) not valid`)
	_, err := governanceOf(g).Authorize(ctx, req)
	if !fault.Is(err, fault.Down) || !fault.HasReason(err, "NOT_RECORDED") {
		t.Errorf("got %v", err)
	}
	recorded(t, w, 0)
	if held, back := w.ledger.count("HELD"), w.ledger.count("RELEASED"); held != 0 || back != 1 {
		t.Errorf("%d holds, %d given back", held, back)
	}

	dbtest.Admin(t, w.db, `alter table fulcrum.decisions drop constraint refuse_all`)
	resp, err := governanceOf(g).Authorize(ctx, req)
	if err != nil || resp.GetDecision() != allowed {
		t.Fatal(resp, err)
	}
	recorded(t, w, 1)
	if held := w.ledger.count("HELD"); held != 1 {
		t.Errorf("%d holds", held)
	}
}

// Without Postgres nothing can be recorded, so nothing is answered with yes.
func TestWithoutPostgresThereIsNoYes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	ctx := as(t, w.key(w.tenant, "*"))
	if _, err := governanceOf(g).Authorize(ctx, toolCall("")); err != nil {
		t.Fatal(err)
	}
	adminExec(t, w, `alter database `+w.db.Name+` with allow_connections false`)
	adminExec(t, w, `select pg_terminate_backend(pid) from pg_stat_activity where datname = '`+w.db.Name+`'`)
	_, err := governanceOf(g).Authorize(ctx, toolCall(""))
	if !fault.Is(err, fault.Down) {
		t.Errorf("got %v", err)
	}
	adminExec(t, w, `alter database `+w.db.Name+` with allow_connections true`)
	eventually(t, "decisions go on", func() bool {
		_, err := governanceOf(g).Authorize(ctx, toolCall(""))
		return err == nil
	})
}

// What happens while a service is away is the tenant's choice, and says so.
func TestFailureModes(t *testing.T) {
	t.Parallel()
	gone := status.Error(codes.Unavailable, "gone")
	for name, test := range map[string]struct {
		settings string
		policies bool // away
		budgets  bool // away
		want     governancev1.Decision
		reason   string
	}{
		"policies away, nothing chosen": {`{}`, true, false, denied, "POLICY_ENGINE_UNAVAILABLE"},
		"policies away, open":           {`{"fail_open": true}`, true, false, allowed, "POLICY_ENGINE_UNAVAILABLE"},
		"budgets away, nothing chosen":  {`{}`, false, true, denied, "BUDGET_UNAVAILABLE"},
		"budgets away, open":            {`{"budgetFailOpen": true}`, false, true, allowed, "BUDGET_UNAVAILABLE"},
		"budgets away, policies open":   {`{"fail_open": true}`, false, true, denied, "BUDGET_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if test.policies {
				w.engine.says(func(*policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) { return nil, gone })
			}
			if test.budgets {
				w.ledger.reserves(func(*budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) { return nil, gone })
			}
			setTenant(t, w, test.settings)
			g := w.gateway()
			ready(t, g)
			resp, err := governanceOf(g).Authorize(as(t, w.key(w.tenant, "*")), toolCall(""))
			if err != nil {
				t.Fatal(err)
			}
			var reasons []string
			for _, r := range resp.GetReasons() {
				reasons = append(reasons, r.GetRuleId())
			}
			if resp.GetDecision() != test.want || !resp.GetDegraded() || len(reasons) != 1 || reasons[0] != test.reason {
				t.Errorf("got %v", resp)
			}
			recorded(t, w, 1)
		})
	}
}

// A refusal by a budget is an answer, with the budget that refused.
func TestABudgetsRefusalIsADenialThatIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.ledger.reserves(func(*budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		return &budgetv1.ReserveResponse{
			Reason: "BUDGET_EXCEEDED", Message: "nothing left", RefusedBy: &governancev1.BudgetState{Id: okBudget, Name: "monthly", Period: "MONTHLY"},
			Suggested: &governancev1.Amounts{ToolCalls: 3}, Retryable: true,
		}, nil
	})
	resp, err := governanceOf(g).Authorize(as(t, w.key(w.tenant, "*")), toolCall(""))
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetDecision() != denied || resp.GetRefusedBy().GetName() != "monthly" || resp.GetMessage() != "denied: nothing left" || resp.GetHold() != nil ||
		resp.GetRefusedBy().GetPeriod() != "MONTHLY" || resp.GetSuggested().GetToolCalls() != 3 || !resp.GetRetryable() {
		t.Errorf("got %v", resp)
	}
	recorded(t, w, 1)
}

// A dry run leaves nothing behind.
func TestADryRunLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks)
	req := toolCall("")
	req.DryRun = true
	resp, err := governanceOf(g).Authorize(as(t, w.key(w.tenant, "*")), req)
	if err != nil || resp.GetDecision() != asks || resp.GetDecisionId() != "" || resp.GetApproval().GetApprovalId() != "" {
		t.Errorf("got %v, %v", resp, err)
	}
	recorded(t, w, 0)
	for _, table := range []string{"idempotency_keys", "approvals", "outbox"} {
		if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.`+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

// A batch answers each action by itself.
func TestABatchAnswersEachActionByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	good, lost, same := toolCall(""), toolCall(uuid.NewString()), toolCall("")
	same.IdempotencyKey = good.GetIdempotencyKey()
	batch := &governancev1.AuthorizeBatchRequest{Requests: []*governancev1.AuthorizeRequest{good, lost, same}}
	for range 97 {
		batch.Requests = append(batch.Requests, toolCall(""))
	}
	resp, err := governanceOf(g).AuthorizeBatch(as(t, w.key(w.tenant, "*")), batch)
	if err != nil {
		t.Fatal(err)
	}
	r := resp.GetResults()
	if len(r) != 100 || r[0].GetResponse().GetDecision() != allowed || codes.Code(r[1].GetCode()) != codes.NotFound || !proto.Equal(r[0], r[2]) {
		t.Errorf("got %v", r[:3])
	}
	recorded(t, w, 98)
}

func setTenant(t *testing.T, w *world, settings string) {
	t.Helper()
	err := w.db.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `select fulcrum.update_tenant_settings($1, $2)`, w.tenant, settings)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something that others bring about.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
		time.Sleep(20 * time.Millisecond) // between looks
	}
}

// A rate that a rule sets is enforced, for each agent by itself.
func TestARulesRateIsEnforced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	rule := uuid.NewString()
	w.engine.decides(allowed, func(r *policyenginev1.EvaluateResponse) {
		r.Obligations = []*governancev1.Obligation{{Type: "THROTTLE", Parameters: map[string]string{"per_minute": "3", "policy_id": rule, "rule_id": "r"}}}
	})
	for _, redis := range []string{"with", "without"} {
		one := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one " + redis})
		two := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "two " + redis})
		want := 3
		if redis == "without" {
			g = w.gateway("REDIS_URL", "redis://127.0.0.1:1/0")
			ready(t, g)
			want = 1
		}
		for who, key := range map[string]string{"one": one, "two": two} {
			through := 0
			for range 6 {
				resp, err := governanceOf(g).Authorize(as(t, key), toolCall(""))
				switch {
				case err != nil:
					t.Fatal(err)
				case resp.GetDecision() == allowed:
					through++
				case resp.GetReasons()[0].GetRuleId() != "RATE_LIMITED" || resp.GetRetryAfter().AsDuration() <= 0 || resp.GetHold() != nil:
					t.Errorf("refused with %v", resp)
				}
			}
			if through != want {
				t.Errorf("agent %s %s redis: %d of 6 at 3 a minute", who, redis, through)
			}
		}
	}
}
