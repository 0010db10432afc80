package app_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

const limitPolicy = "0199c0de-0000-7000-8000-0000000000a1"

type parameters = map[string]string

// limits makes the engine say of tools what rules with limits would.
func (w *world) limits(byTool map[string][]parameters) {
	w.engine.says(func(req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		resp := judgement(allowed)
		resp.Results[0].PolicyId, resp.Results[0].PolicyName = limitPolicy, "limits"
		resp.Results[0].MatchedRules = []*policyv1.RuleMatch{{RuleId: "r", RuleName: "the rule"}}
		for _, p := range byTool[req.GetFacts().GetAction().GetName()] {
			o := &governancev1.Obligation{Type: "LIMIT", Parameters: parameters{"policy_id": limitPolicy, "rule_id": "r"}}
			for k, v := range p {
				o.Parameters[k] = v
			}
			resp.Obligations = append(resp.Obligations, o)
		}
		return resp, nil
	})
}

func call(tool, envelope string) *governancev1.AuthorizeRequest {
	req := toolCall(envelope)
	req.Action.Name = tool
	return req
}

// decided authorizes and returns the answer.
func decided(t *testing.T, ctx context.Context, g *gateway, req *governancev1.AuthorizeRequest) *governancev1.AuthorizeResponse {
	t.Helper()
	resp, err := governanceOf(g).Authorize(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func settled(t *testing.T, ctx context.Context, g *gateway, id string, outcome governancev1.Outcome) {
	t.Helper()
	req := &governancev1.SettleRequest{DecisionId: id, Outcome: outcome, IdempotencyKey: uuid.NewString()}
	if outcome == governancev1.Outcome_OUTCOME_SUCCESS {
		req.Usage = &governancev1.Usage{ToolCalls: 1}
	}
	if _, err := governanceOf(g).Settle(ctx, req); err != nil {
		t.Error(err)
	}
}

func released(t *testing.T, ctx context.Context, g *gateway, id string) {
	t.Helper()
	if _, err := governanceOf(g).Release(ctx, &governancev1.ReleaseRequest{DecisionId: id, IdempotencyKey: uuid.NewString()}); err != nil {
		t.Error(err)
	}
}

// consistent asserts that counters say what their entries add up to.
func consistent(t *testing.T, w *world) {
	t.Helper()
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_counters c
		where c.taken <> (select coalesce(sum(e.amount), 0) from fulcrum.limit_entries e where e.tenant_id = c.tenant_id and e.counter_id = c.id)`); n != 0 {
		t.Errorf("%d counters differ from their entries", n)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries e
		where not exists (select from fulcrum.limit_counters c where c.tenant_id = e.tenant_id and c.id = e.counter_id)`); n != 0 {
		t.Errorf("%d entries have no counter", n)
	}
}

var threeRefunds = map[string][]parameters{"refund": {{"max": "3", "per": "hour", "by": "agent", "message": "no more refunds"}}}

// "At most 3 refunds per hour": what was released does not count, what was
// settled does, and an hour is an hour.
func TestAtMostThreeRefundsPerHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.limits(threeRefunds)
	ctx := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one"}))
	other := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "other"}))

	dry := call("refund", "")
	dry.DryRun = true
	for range 5 {
		if resp := decided(t, ctx, g, dry); resp.GetDecision() != allowed {
			t.Errorf("a dry run: %v", resp)
		}
	}
	var ids []string
	for range 3 {
		resp := decided(t, ctx, g, call("refund", ""))
		if resp.GetDecision() != allowed {
			t.Fatal(resp)
		}
		ids = append(ids, resp.GetDecisionId())
	}
	settled(t, ctx, g, ids[0], governancev1.Outcome_OUTCOME_SUCCESS)
	settled(t, ctx, g, ids[1], governancev1.Outcome_OUTCOME_FAILURE)

	full := decided(t, ctx, g, call("refund", ""))
	reason := full.GetReasons()[0]
	if full.GetDecision() != denied || full.GetHold() != nil || reason.GetPolicyId() != limitPolicy || reason.GetRuleId() != "r" || reason.GetRuleName() != "the rule" ||
		full.GetRefusedBy().GetLimit() != 3 || full.GetRefusedBy().GetSpent() != 3 || !full.GetRetryable() {
		t.Errorf("the fourth: %v", full)
	}
	if in := full.GetRetryAfter().AsDuration(); in <= 0 || in > time.Hour {
		t.Errorf("room comes in %s", in)
	}
	for _, part := range []string{"no more refunds", "at most 3 calls per 1h by agent", "3 calls are taken", "room comes in"} {
		if !strings.Contains(full.GetMessage(), part) {
			t.Errorf("the message %q does not say %q", full.GetMessage(), part)
		}
	}
	eventually(t, "the money of the fourth is given back", func() bool { return w.ledger.count("RELEASED") == 1 })
	if resp := decided(t, other, g, call("refund", "")); resp.GetDecision() != allowed {
		t.Errorf("another agent: %v", resp)
	}
	if resp := decided(t, ctx, g, call("search", "")); resp.GetDecision() != allowed {
		t.Errorf("another tool: %v", resp)
	}

	dry.IdempotencyKey = uuid.NewString()
	if resp := decided(t, ctx, g, dry); resp.GetDecision() != denied || resp.GetRefusedBy().GetSpent() != 3 {
		t.Errorf("a dry run of a fourth: %v", resp)
	}
	released(t, ctx, g, ids[2])
	again := decided(t, ctx, g, call("refund", ""))
	if again.GetDecision() != allowed {
		t.Errorf("after one was released: %v", again)
	}
	settled(t, ctx, g, again.GetDecisionId(), governancev1.Outcome_OUTCOME_CANCELLED)
	if resp := decided(t, ctx, g, call("refund", "")); resp.GetDecision() != allowed {
		t.Errorf("after one was called off: %v", resp)
	}
	if resp := decided(t, ctx, g, call("refund", "")); resp.GetDecision() != denied {
		t.Errorf("a fourth: %v", resp)
	}
	dbtest.Admin(t, w.db, `update fulcrum.limit_entries set until = now() - interval '1 millisecond' where decision_id = '`+ids[0]+`'`)
	if resp := decided(t, ctx, g, call("refund", "")); resp.GetDecision() != allowed {
		t.Errorf("an hour after the first: %v", resp)
	}
	if resp := decided(t, ctx, g, call("refund", "")); resp.GetDecision() != denied {
		t.Errorf("the second and third are of this hour: %v", resp)
	}
	consistent(t, w)
}

// However many callers ask two gateways at once, three pass, and nothing is
// left of the others: no count, no money.
func TestARaceForThreeRefundsHasThreeWinners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// A hundred callers each: with fewer connections a slow machine turns some away.
	gateways := []*gateway{w.gateway("GATEWAY_DB_CONNS", "16"), w.gateway("GATEWAY_DB_CONNS", "16")}
	for _, g := range gateways {
		ready(t, g)
	}
	w.limits(threeRefunds)
	ctx := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one"}))
	const callers = 200
	var yes, no atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			resp, err := governanceOf(gateways[i%2]).Authorize(ctx, call("refund", ""))
			switch {
			case err != nil:
				t.Error(err)
			case resp.GetDecision() == allowed:
				yes.Add(1)
			case resp.GetDecision() == denied && resp.GetRefusedBy() != nil:
				no.Add(1)
			default:
				t.Errorf("got %v", resp)
			}
		})
	}
	all.Wait()
	if yes.Load() != 3 || no.Load() != callers-3 {
		t.Errorf("%d passed, %d were refused", yes.Load(), no.Load())
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries`); n != 3 {
		t.Errorf("%d count", n)
	}
	eventually(t, "the others' money is given back", func() bool {
		return w.ledger.count("HELD") == 3 && w.ledger.count("RELEASED") == callers-3
	})
	recorded(t, w, callers)
	consistent(t, w)
}

// The same call again, over two gateways at once and after the answer was lost,
// counts once.
func TestARepeatedCallCountsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	for _, g := range gateways {
		ready(t, g)
	}
	w.limits(threeRefunds)
	ctx := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one"}))
	for n := range 5 {
		req := call("refund", "")
		lost, cancel := context.WithCancel(ctx)
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			_, _ = governanceOf(gateways[0]).Authorize(lost, req) // nobody hears the answer
		}()
		cancel()
		<-asked
		answers := make([]string, 20)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				resp, err := governanceOf(gateways[i%2]).Authorize(ctx, req)
				if err != nil {
					t.Error(err)
					return
				}
				answers[i] = resp.GetDecisionId() + " " + resp.GetDecision().String()
			})
		}
		all.Wait()
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("two answers: %q and %q", answers[0], a)
			}
		}
		if got := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries`); got != int64(min(n+1, 3)) {
			t.Errorf("%d calls count as %d", n+1, got)
		}
	}
	consistent(t, w)
}

var fiveAtOnce = map[string][]parameters{"work": {{"parallel": "5", "by": "tenant"}}}

// "No more than 5 in parallel", seen from outside: between a yes and the
// settling of it.
func TestNoMoreThanFiveInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	for _, g := range gateways {
		ready(t, g)
	}
	w.limits(fiveAtOnce)
	ctx := as(t, w.key(w.tenant, "*"))
	var running, most, yes atomic.Int64
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			for n := range 5 {
				g := gateways[(i+n)%2]
				resp, err := governanceOf(g).Authorize(ctx, call("work", ""))
				if err != nil {
					t.Error(err)
					return
				}
				if resp.GetDecision() != allowed {
					continue
				}
				yes.Add(1)
				for now, seen := running.Add(1), most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				if _, err := governanceOf(g).Authorize(ctx, call("search", "")); err != nil { // what it does
					t.Error(err)
				}
				running.Add(-1)
				switch n % 3 {
				case 0:
					settled(t, ctx, g, resp.GetDecisionId(), governancev1.Outcome_OUTCOME_SUCCESS)
				case 1:
					settled(t, ctx, g, resp.GetDecisionId(), governancev1.Outcome_OUTCOME_FAILURE)
				default:
					released(t, ctx, g, resp.GetDecisionId())
				}
			}
		})
	}
	all.Wait()
	if most.Load() > 5 || yes.Load() < 5 {
		t.Errorf("%d at once, %d in all", most.Load(), yes.Load())
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries`); n != 0 {
		t.Errorf("%d places are not free", n)
	}
	consistent(t, w)

	// All that is taken stays taken until it is given back.
	var ids []string
	for range 5 {
		ids = append(ids, decided(t, ctx, gateways[0], call("work", "")).GetDecisionId())
	}
	full := decided(t, ctx, gateways[1], call("work", ""))
	if full.GetDecision() != denied || full.GetRefusedBy().GetHeld() != 5 || full.GetRetryAfter() == nil || !strings.Contains(full.GetMessage(), "at most 5 in parallel") {
		t.Errorf("the sixth: %v", full)
	}
	settled(t, ctx, gateways[1], ids[0], governancev1.Outcome_OUTCOME_SUCCESS)
	if resp := decided(t, ctx, gateways[0], call("work", "")); resp.GetDecision() != allowed {
		t.Errorf("after one was settled: %v", resp)
	}
}

// A place that nobody gives back is free when its time is over, renewing gives
// it more time, and the end of an envelope frees the places in it.
func TestAPlaceIsFreeWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.limits(map[string][]parameters{"work": {{"parallel": "1", "by": "tenant"}}})
	ctx := as(t, w.key(w.tenant, "*"))
	req := call("work", "")
	req.HoldTtl = durationpb.New(time.Hour)
	first := decided(t, ctx, g, req)
	renew := &governancev1.RenewRequest{DecisionId: first.GetDecisionId(), HoldTtl: durationpb.New(2 * time.Hour), IdempotencyKey: uuid.NewString()}
	if _, err := governanceOf(g).Renew(ctx, renew); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries where until > now() + interval '90 minutes'`); n != 1 {
		t.Errorf("%d places have more time", n)
	}
	if resp := decided(t, ctx, g, call("work", "")); resp.GetDecision() != denied {
		t.Errorf("a second: %v", resp)
	}
	dbtest.Admin(t, w.db, `update fulcrum.limit_entries set until = now() - interval '1 millisecond'`)
	renew.IdempotencyKey = uuid.NewString()
	if _, err := governanceOf(g).Renew(ctx, renew); !fault.HasReason(err, "SLOT_ENDED") {
		t.Errorf("renewed what is over: %v", err)
	}

	env := openEnvelope(t, ctx, g)
	if resp := decided(t, ctx, g, call("work", env)); resp.GetDecision() != allowed {
		t.Errorf("after its time: %v", resp)
	}
	settled(t, ctx, g, first.GetDecisionId(), governancev1.Outcome_OUTCOME_SUCCESS) // late: the place is another's
	if resp := decided(t, ctx, g, call("work", "")); resp.GetDecision() != denied {
		t.Errorf("a second after a late settlement: %v", resp)
	}
	if _, err := envelopev1.NewEnvelopeServiceClient(g.conn).TerminateEnvelope(ctx, &envelopev1.TerminateEnvelopeRequest{EnvelopeId: env, Reason: "enough"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the place in the ended envelope is free", func() bool {
		return decided(t, ctx, g, call("work", "")).GetDecision() == allowed
	})
	consistent(t, w)
}

var noMailAfterSecrets = map[string][]parameters{
	"read_secret": {{"remember": "secrets-read", "by": "envelope"}},
	"send_mail":   {{"never_after": "secrets-read", "by": "envelope"}, {"max": "10000", "per": "day", "by": "envelope"}},
}

// "Never send mail after reading secrets in the same envelope."
func TestNeverMailAfterSecretsInTheSameEnvelope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.limits(noMailAfterSecrets)
	ctx := as(t, w.key(w.tenant, "*"))
	env, other := openEnvelope(t, ctx, g), openEnvelope(t, ctx, g)
	if resp := decided(t, ctx, g, call("send_mail", env)); resp.GetDecision() != allowed {
		t.Errorf("before: %v", resp)
	}
	read := decided(t, ctx, g, call("read_secret", env))
	if read.GetDecision() != allowed {
		t.Fatal(read)
	}
	released(t, ctx, g, read.GetDecisionId()) // it says that it did not read them
	mail := decided(t, ctx, g, call("send_mail", env))
	if mail.GetDecision() != denied || mail.GetRetryable() || mail.GetRetryAfter() != nil || !strings.Contains(mail.GetMessage(), "never after secrets-read in the same envelope") {
		t.Errorf("after: %v", mail)
	}
	if resp := decided(t, ctx, g, call("read_secret", env)); resp.GetDecision() != allowed {
		t.Errorf("a second look: %v", resp)
	}
	if resp := decided(t, ctx, g, call("send_mail", other)); resp.GetDecision() != allowed {
		t.Errorf("another envelope: %v", resp)
	}
	outside := decided(t, ctx, g, call("send_mail", ""))
	if outside.GetDecision() != denied || outside.GetReasons()[0].GetRuleName() != "LIMIT_SUBJECT_UNKNOWN" {
		t.Errorf("outside of any envelope nobody can tell, and it must be a no: %v", outside)
	}
	consistent(t, w)
}

// Mail and a look at secrets race over two gateways: whatever the order, once
// the look is recorded there is no yes to mail any more.
func TestMailAndSecretsRaceInOneOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	for _, g := range gateways {
		ready(t, g)
	}
	w.limits(noMailAfterSecrets)
	ctx := as(t, w.key(w.tenant, "*"))
	var mailed atomic.Int64
	var all sync.WaitGroup
	for n := range 10 {
		env := openEnvelope(t, ctx, gateways[0])
		var looked atomic.Bool
		for i := range 19 {
			all.Go(func() {
				after := looked.Load()
				resp, err := governanceOf(gateways[i%2]).Authorize(ctx, call("send_mail", env))
				switch {
				case err != nil:
					t.Error(err)
				case resp.GetDecision() == allowed && after:
					t.Error("mail was allowed after the look at secrets had been")
				case resp.GetDecision() == allowed:
					mailed.Add(1)
				}
			})
		}
		all.Go(func() {
			resp, err := governanceOf(gateways[n%2]).Authorize(ctx, call("read_secret", env))
			if err != nil || resp.GetDecision() != allowed {
				t.Error(resp, err)
			}
			looked.Store(true)
		})
	}
	all.Wait()
	// The time of an entry is read under the lock of the counter that both look at.
	if bad := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries mail
		join fulcrum.limit_entries look on look.tenant_id = mail.tenant_id and look.envelope_id = mail.envelope_id and look.unit = 'mark'
		where mail.unit = 'calls' and mail.taken_at > look.taken_at`); bad != 0 {
		t.Errorf("%d yeses to mail were recorded after the look at secrets", bad)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries where unit = 'calls'`); n != mailed.Load() {
		t.Errorf("%d mails count, %d were allowed", n, mailed.Load())
	}
	consistent(t, w)
}

// A gateway is killed in the middle of everything. What was answered counts,
// what was not recorded does not, and places come back by themselves.
func TestAKillLeavesNoLimitTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doomed, kill := w.child()
	ready(t, doomed)
	w.limits(map[string][]parameters{"work": {{"parallel": "5", "by": "tenant"}, {"max": "10000", "per": "hour", "by": "tenant"}}})
	ctx := as(t, w.key(w.tenant, "*"))
	var all sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		all.Go(func() {
			for {
				req := call("work", "")
				req.HoldTtl = durationpb.New(time.Second)
				resp, err := governanceOf(doomed).Authorize(ctx, req)
				if err != nil {
					return
				}
				if resp.GetDecision() == allowed && answered.Add(1)%2 == 0 {
					_, _ = governanceOf(doomed).Settle(ctx, &governancev1.SettleRequest{
						DecisionId: resp.GetDecisionId(), Outcome: governancev1.Outcome_OUTCOME_SUCCESS, IdempotencyKey: uuid.NewString(),
					})
				}
			}
		})
	}
	eventually(t, "some were answered", func() bool { return answered.Load() >= 12 })
	kill()
	all.Wait()
	yes := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions where decision = 'ALLOW'`)
	if calls := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries where unit = 'calls'`); calls != yes || yes < answered.Load() {
		t.Errorf("%d are recorded, %d count, %d were answered", yes, calls, answered.Load())
	}
	consistent(t, w)

	store := postgres.New(w.db.DB, func() {})
	eventually(t, "places are over", func() bool {
		return dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries where unit = 'slot' and until > now()`) == 0
	})
	dbtest.Admin(t, w.db, `update fulcrum.limit_counters set touched_at = now() - interval '11 minutes'`)
	if err := store.LapseLimits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries where unit = 'slot'`); left != 0 {
		t.Errorf("%d places leaked", left)
	}
	consistent(t, w)
	g := w.gateway()
	ready(t, g)
	for n := range 6 {
		if resp := decided(t, ctx, g, call("work", "")); (resp.GetDecision() == allowed) != (n < 5) {
			t.Errorf("call %d afterwards: %v", n, resp)
		}
	}
	consistent(t, w)
}

// Limits of one tenant know nothing of another's.
func TestLimitsAreEachTenantsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.limits(map[string][]parameters{"refund": {{"max": "1", "per": "hour", "by": "tenant", "counter": "refunds"}}})
	for range 3 {
		ctx := as(t, w.key(newTenant(w), "*"))
		for n := range 2 {
			if resp := decided(t, ctx, g, call("refund", "")); (resp.GetDecision() == allowed) != (n == 0) {
				t.Errorf("call %d: %v", n, resp)
			}
		}
	}
	if n := dbtest.Count(t, w.db, `select count(distinct id) from fulcrum.limit_counters`); n != 3 {
		t.Errorf("%d counters", n)
	}
	consistent(t, w)
}

// What cannot be read, or kept, denies; what only warns does not; what ends
// envelopes does.
func TestALimitDoesWhatItsRuleSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.limits(map[string][]parameters{
		"unread":  {{"max": "3", "per": "hour", "windw": "1h"}},
		"unknown": {{"max": "3", "per": "hour", "by": "user"}},
		"soft":    {{"max": "1", "per": "hour", "level": "WARN"}},
		"hard":    {{"max": "1", "per": "hour", "level": "TERMINATE"}},
		"spend":   {{"max": "0.025", "of": "usd", "per": "calendar day", "zone": "Europe/Berlin"}},
	})
	ctx := as(t, w.key(w.tenant, "*"))
	for tool, code := range map[string]string{"unread": "LIMIT_INVALID", "unknown": "LIMIT_SUBJECT_UNKNOWN"} {
		if resp := decided(t, ctx, g, call(tool, "")); resp.GetDecision() != denied || resp.GetReasons()[0].GetRuleName() != code {
			t.Errorf("%s: %v", tool, resp)
		}
	}
	for n, want := range []governancev1.Decision{allowed, warned, warned} {
		resp := decided(t, ctx, g, call("soft", ""))
		if resp.GetDecision() != want || resp.GetHold() == nil || n > 0 && !strings.Contains(resp.GetMessage(), "at most 1 calls") {
			t.Errorf("soft %d: %v", n, resp)
		}
	}
	env := openEnvelope(t, ctx, g)
	decided(t, ctx, g, call("hard", env))
	if resp := decided(t, ctx, g, call("hard", env)); resp.GetDecision() != denied {
		t.Errorf("hard: %v", resp)
	}
	got, err := envelopev1.NewEnvelopeServiceClient(g.conn).GetEnvelope(ctx, &envelopev1.GetEnvelopeRequest{EnvelopeId: env})
	if err != nil || got.GetEnvelope().GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_POLICY_VIOLATION {
		t.Errorf("the envelope: %v, %v", got, err)
	}
	// An estimate of one cent each; a settlement says what it was, here next to nothing.
	first, second := decided(t, ctx, g, call("spend", "")), decided(t, ctx, g, call("spend", ""))
	over := decided(t, ctx, g, call("spend", ""))
	if first.GetDecision() != allowed || second.GetDecision() != allowed || over.GetDecision() != denied || !strings.Contains(over.GetMessage(), "0.02 USD are taken") {
		t.Errorf("spending: %v, %v, %v", first, second, over)
	}
	settled(t, ctx, g, first.GetDecisionId(), governancev1.Outcome_OUTCOME_SUCCESS)
	if resp := decided(t, ctx, g, call("spend", "")); resp.GetDecision() != allowed {
		t.Errorf("after a settlement for less: %v", resp)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries where unit = 'usd'
		and until <> (date_trunc('day', now() at time zone 'Europe/Berlin') + interval '1 day') at time zone 'Europe/Berlin'`); n != 0 {
		t.Errorf("%d do not count until the end of the day", n)
	}
	consistent(t, w)
}

// A limit on opening envelopes counts those that live.
func TestEnvelopesInParallelAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(allowed, func(r *policyenginev1.EvaluateResponse) {
		r.Obligations = []*governancev1.Obligation{{Type: "LIMIT", Parameters: parameters{"policy_id": limitPolicy, "rule_id": "r", "parallel": "2", "by": "tenant"}}}
	})
	ctx := as(t, w.key(w.tenant, "*"))
	client := envelopev1.NewEnvelopeServiceClient(g.conn)
	one := openEnvelope(t, ctx, g)
	openEnvelope(t, ctx, g)
	third, err := client.CreateEnvelope(ctx, &envelopev1.CreateEnvelopeRequest{})
	if err != nil || third.GetEnvelope().GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_POLICY_VIOLATION {
		t.Fatalf("a third: %v, %v", third, err)
	}
	if _, err := client.TerminateEnvelope(ctx, &envelopev1.TerminateEnvelopeRequest{EnvelopeId: one}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room for another", func() bool {
		resp, err := client.CreateEnvelope(ctx, &envelopev1.CreateEnvelopeRequest{})
		return err == nil && resp.GetEnvelope().GetStatus() == envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED
	})
	consistent(t, w)
}

func openEnvelope(t *testing.T, ctx context.Context, g *gateway) string {
	t.Helper()
	resp, err := envelopev1.NewEnvelopeServiceClient(g.conn).CreateEnvelope(ctx, &envelopev1.CreateEnvelopeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetEnvelope().GetEnvelopeId()
}

// What counters have counted is a fact for rules: read before they are asked,
// in flight included, whoever asks and for whatever reason.
func TestRulesHearWhatWasBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	definition := &governancev1.Obligation{Type: "LIMIT", Parameters: parameters{"count": "refunds", "per": "hour", "by": "agent", "policy_id": limitPolicy, "rule_id": "r"}}
	var unknown atomic.Int64
	w.engine.says(func(req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		before, known := req.GetFacts().GetHistory()["refunds"]
		resp := judgement(allowed)
		switch {
		case !known:
			unknown.Add(1)
			resp = judgement(denied)
		case before >= 2:
			resp = judgement(asks)
		}
		resp.History = []*governancev1.Obligation{definition}
		resp.Obligations = []*governancev1.Obligation{definition}
		return resp, nil
	})
	ctx := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "one"}))
	other := as(t, w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "other"}))
	first := decided(t, ctx, g, call("refund", ""))
	if first.GetDecision() != allowed || unknown.Load() != 1 {
		t.Errorf("the first: %v, asked without %d times", first, unknown.Load())
	}
	if resp := decided(t, ctx, g, call("refund", "")); resp.GetDecision() != allowed {
		t.Errorf("the second: %v", resp)
	}
	dry := call("refund", "")
	dry.DryRun = true
	if resp := decided(t, ctx, g, dry); resp.GetDecision() != asks {
		t.Errorf("the third, if it came: %v", resp)
	}
	third := decided(t, ctx, g, call("refund", ""))
	if third.GetDecision() != asks {
		t.Errorf("the third: %v", third)
	}
	filtered, err := governanceOf(g).FilterTools(ctx, &governancev1.FilterToolsRequest{Tools: []*governancev1.Tool{{Name: "refund"}}})
	if err != nil || filtered.GetTools()[0].GetDecision() != asks {
		t.Errorf("the list of tools: %v, %v", filtered, err)
	}
	evaluated, err := policyv1.NewPolicyServiceClient(g.conn).EvaluatePolicy(ctx, &policyv1.EvaluatePolicyRequest{Context: &policyv1.EvaluationContext{ToolNames: []string{"refund"}}})
	if err != nil || evaluated.GetResult().GetDecision() != policyv1.EvaluationDecision_EVALUATION_DECISION_REQUIRE_APPROVAL {
		t.Errorf("EvaluatePolicy: %v, %v", evaluated, err)
	}
	if resp := decided(t, other, g, call("refund", "")); resp.GetDecision() != allowed {
		t.Errorf("another agent: %v", resp)
	}
	released(t, ctx, g, first.GetDecisionId())
	if resp := decided(t, ctx, g, call("refund", "")); resp.GetDecision() != allowed {
		t.Errorf("after one was released: %v", resp)
	}
	if unknown.Load() != 1 {
		t.Errorf("asked without what was before %d times", unknown.Load())
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries`); n != 3 {
		t.Errorf("%d count", n)
	}
	consistent(t, w)
}

// A limit is asked when an approved action happens, not when it is asked for;
// and one that refuses uses no approval up.
func TestAFullLimitUsesNoApprovalUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) {
		r.Obligations = []*governancev1.Obligation{{Type: "LIMIT", Parameters: parameters{"policy_id": limitPolicy, "rule_id": "r", "parallel": "1", "by": "tenant"}}}
	})
	agent := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "agent-1"})
	person := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"approval:write", "approval:read"}, UserID: "ada"})
	approved := func(req *governancev1.AuthorizeRequest) string {
		id := askFor(t, g, agent, req)
		if _, err := review(t, g, person, id, "APPROVED"); err != nil {
			t.Fatal(err)
		}
		return id
	}
	one, two := call("one", ""), call("two", "")
	oneID, twoID := approved(one), approved(two)
	ctx := as(t, agent)
	first := decided(t, ctx, g, repeated(one, oneID))
	if first.GetDecision() != allowed {
		t.Fatal(first)
	}
	if resp := decided(t, ctx, g, repeated(two, twoID)); resp.GetDecision() != denied || resp.GetRefusedBy().GetUnit() != "parallel" {
		t.Errorf("the second at once: %v", resp)
	}
	settled(t, ctx, g, first.GetDecisionId(), governancev1.Outcome_OUTCOME_SUCCESS)
	if resp := decided(t, ctx, g, repeated(two, twoID)); resp.GetDecision() != allowed {
		t.Errorf("with the same approval, when there is room: %v", resp)
	}
	consistent(t, w)
}
