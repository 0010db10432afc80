package app_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// Whatever is tried with an approval beyond its one use, by whomever, is
// refused with its reason, and the refusal is one event in the tenant of who
// tried.
func TestEveryRefusalOfAnApprovalHasItsReasonAndItsEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.ApprovalRoles = []string{"approver"} })
	agent := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "agent-1", Roles: []string{"approver"}})
	ada := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, UserID: "ada", Roles: []string{"approver"}})
	joe := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, UserID: "joe"})
	strangers := newTenant(w)
	stranger := w.keyAs(identity.Principal{Tenant: strangers, Scopes: []string{"*"}, UserID: "ada", Roles: []string{"approver"}})

	type attempt = func(t *testing.T, req *governancev1.AuthorizeRequest, id string)
	uses := func(key, reason string, change ...func(*governancev1.AuthorizeRequest)) attempt {
		return func(t *testing.T, req *governancev1.AuthorizeRequest, id string) {
			t.Helper()
			again := repeated(req, id)
			for _, f := range change {
				f(again)
			}
			resp, err := governanceOf(g).Authorize(as(t, key), again)
			if err != nil || resp.GetDecision() != denied || resp.GetHold() != nil || resp.GetReasons()[0].GetRuleId() != reason {
				t.Errorf("used: %v, %v, want %s", resp, err, reason)
			}
		}
	}
	votes := func(key string, kind fault.Kind, reason string) attempt {
		return func(t *testing.T, _ *governancev1.AuthorizeRequest, id string) {
			t.Helper()
			if _, err := review(t, g, key, id, "APPROVED"); !fault.Is(err, kind) || !fault.HasReason(err, reason) {
				t.Errorf("voted: %v, want %s", err, reason)
			}
		}
	}
	approves := func(t *testing.T, _ *governancev1.AuthorizeRequest, id string) {
		t.Helper()
		if _, err := review(t, g, ada, id, "APPROVED"); err != nil {
			t.Fatal(err)
		}
	}
	rejects := func(t *testing.T, _ *governancev1.AuthorizeRequest, id string) {
		t.Helper()
		if _, err := review(t, g, ada, id, "REJECTED"); err != nil {
			t.Fatal(err)
		}
	}
	acts := func(t *testing.T, req *governancev1.AuthorizeRequest, id string) {
		t.Helper()
		if resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id)); err != nil || resp.GetDecision() != allowed {
			t.Fatal(resp, err)
		}
	}
	swap := func(r *governancev1.AuthorizeRequest) {
		r.Action.Arguments.Fields["to"] = structpb.NewStringValue("eve@example.com")
	}
	foreign := func(t *testing.T, req *governancev1.AuthorizeRequest, id string) {
		t.Helper()
		if _, err := governanceOf(g).Authorize(as(t, stranger), repeated(req, id)); !fault.Is(err, fault.NotFound) || !fault.HasReason(err, "APPROVAL_NOT_FOUND") {
			t.Errorf("another tenant's approval: %v", err)
		}
	}

	for name, test := range map[string]struct {
		steps  []attempt
		tenant uuid.UUID
		reason string
	}{
		"replay":                 {[]attempt{approves, acts, uses(agent, "APPROVAL_USED")}, w.tenant, "APPROVAL_USED"},
		"argument swap":          {[]attempt{approves, uses(agent, "APPROVAL_MISMATCH", swap), acts}, w.tenant, "APPROVAL_MISMATCH"},
		"another caller":         {[]attempt{approves, uses(joe, "APPROVAL_MISMATCH"), acts}, w.tenant, "APPROVAL_MISMATCH"},
		"expired, not answered":  {[]attempt{w.runOut, uses(agent, "APPROVAL_EXPIRED")}, w.tenant, "APPROVAL_EXPIRED"},
		"expired, not used":      {[]attempt{approves, w.runOut, uses(agent, "APPROVAL_EXPIRED")}, w.tenant, "APPROVAL_EXPIRED"},
		"answered too late":      {[]attempt{w.runOut, votes(ada, fault.Precondition, "APPROVAL_NOT_PENDING")}, w.tenant, "APPROVAL_NOT_PENDING"},
		"rejected":               {[]attempt{rejects, uses(agent, "APPROVAL_REJECTED")}, w.tenant, "APPROVAL_REJECTED"},
		"self-approval":          {[]attempt{votes(agent, fault.Denied, "APPROVAL_OWN_ACTION")}, w.tenant, "APPROVAL_OWN_ACTION"},
		"without the role":       {[]attempt{votes(joe, fault.Denied, "APPROVAL_ROLE_MISSING")}, w.tenant, "APPROVAL_ROLE_MISSING"},
		"wrong tenant's answer":  {[]attempt{votes(stranger, fault.NotFound, "APPROVAL_NOT_FOUND")}, strangers, "APPROVAL_NOT_FOUND"},
		"used by a wrong tenant": {[]attempt{approves, foreign, acts}, strangers, "APPROVAL_NOT_FOUND"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := toolCall("")
			req.Action.Arguments = &structpb.Struct{Fields: map[string]*structpb.Value{"to": structpb.NewStringValue("bob@example.com")}}
			id := askFor(t, g, agent, req)
			for _, step := range test.steps {
				step(t, req, id)
			}
			for _, tenant := range []uuid.UUID{w.tenant, strangers} {
				var want []string
				if tenant == test.tenant {
					want = []string{test.reason}
				}
				if got := w.refusals(t, id, tenant); !slices.Equal(got, want) {
					t.Errorf("refused as %v, want %v (strangers: %v)", got, want, tenant == strangers)
				}
			}
		})
	}
}

// Many callers with one approval: one of them acts, and the others are one
// refusal each.
func TestADoubleUseIsAnEventForEachWhoLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	for _, g := range gateways {
		ready(t, g)
	}
	w.engine.decides(asks)
	agent, person := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	req := toolCall("")
	id := askFor(t, gateways[0], agent, req)
	if _, err := review(t, gateways[1], person, id, "APPROVED"); err != nil {
		t.Fatal(err)
	}
	const callers = 12
	errs := make(chan error, callers)
	for i := range callers {
		go func() {
			_, err := governanceOf(gateways[i%2]).Authorize(as(t, agent), repeated(req, id))
			errs <- err
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := w.refusals(t, id, w.tenant); !slices.Equal(got, slices.Repeat([]string{"APPROVAL_USED"}, callers-1)) {
		t.Errorf("%d callers, refused as %v", callers, got)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'approval_consumed'`); n != 1 {
		t.Errorf("%d uses", n)
	}
}

// What stands between the steps of an approval is in the database: with a new
// gateway for each step nothing is forgotten, and nothing counts twice.
func TestAnApprovalOutlivesTheGatewayAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fresh := func() *gateway {
		g := w.gateway()
		ready(t, g)
		return g
	}
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.ApprovalQuorum = 2 })
	agent := w.key(w.tenant, "*")
	people := []string{w.key(w.tenant, "*"), w.key(w.tenant, "*")}
	req := toolCall("")
	g := fresh()
	id := askFor(t, g, agent, req)
	for _, person := range people {
		for range 2 { // the reply to the first was lost with the gateway
			g.stop()
			g = fresh()
			if _, err := review(t, g, person, id, "APPROVED"); err != nil {
				t.Fatal(err)
			}
		}
	}
	use := repeated(req, id)
	var first string
	for range 2 {
		g.stop()
		g = fresh()
		resp, err := governanceOf(g).Authorize(as(t, agent), use)
		if err != nil || resp.GetDecision() != allowed || first != "" && resp.GetDecisionId() != first {
			t.Fatalf("after a restart: %v, %v, first %s", resp, err, first)
		}
		first = resp.GetDecisionId()
	}
	if resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id)); err != nil || resp.GetDecision() != denied {
		t.Errorf("replayed after the restarts: %v, %v", resp, err)
	}
	for kind, want := range map[string]int64{
		"approval_requested": 1, "approval_vote_cast": 1, "approval_approved": 1, "approval_consumed": 1, "approval_refused": 1,
	} {
		if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = '`+kind+`'`); n != want {
			t.Errorf("%d events %s, want %d", n, kind, want)
		}
	}
}

// What is refused for another reason than the approval, or only tried, uses
// nothing up.
func TestADenialOrADryRunUsesNoApprovalUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks)
	agent, person := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	req := toolCall("")
	id := askFor(t, g, agent, req)
	if _, err := review(t, g, person, id, "APPROVED"); err != nil {
		t.Fatal(err)
	}
	try := repeated(req, id)
	try.DryRun = true
	if resp, err := governanceOf(g).Authorize(as(t, agent), try); err != nil || resp.GetDecision() != allowed {
		t.Errorf("a dry run: %v, %v", resp, err)
	}
	w.ledger.reserves(func(*budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		return &budgetv1.ReserveResponse{Reason: "BUDGET_EXCEEDED", Message: "nothing is left"}, nil
	})
	if resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id)); err != nil || resp.GetDecision() != denied || resp.GetReasons()[0].GetRuleId() != "BUDGET_EXCEEDED" {
		t.Errorf("without money: %v, %v", resp, err)
	}
	w.ledger.reserves(nil)
	if resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id)); err != nil || resp.GetDecision() != allowed {
		t.Errorf("with money: %v, %v", resp, err)
	}
	unknown := repeated(req, uuid.NewString())
	unknown.DryRun = true
	if _, err := governanceOf(g).Authorize(as(t, agent), unknown); !fault.HasReason(err, "APPROVAL_NOT_FOUND") {
		t.Errorf("a dry run with an approval of nobody: %v", err)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'approval_refused'`); n != 0 {
		t.Errorf("%d refusals of an approval", n)
	}
}

// An approval past its time is listed as expired and under no other state,
// also before anybody has written that down.
func TestAnOverdueApprovalIsListedAsExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway("GATEWAY_SWEEP_EVERY", "1h")
	ready(t, g)
	w.engine.decides(asks)
	agent, person := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	pending, granted := toolCall(""), toolCall("")
	ids := []string{askFor(t, g, agent, pending), askFor(t, g, agent, granted)}
	if _, err := review(t, g, person, ids[1], "APPROVED"); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		w.runOut(t, nil, id)
	}
	for state, want := range map[string]int{"PENDING": 0, "APPROVED": 0, "EXPIRED": 2, "": 2} {
		list, err := policyv1.NewPolicyServiceClient(g.conn).ListApprovals(as(t, person), &policyv1.ListApprovalsRequest{Status: state})
		if err != nil || len(list.GetApprovals()) != want || int(list.GetTotalCount()) != want {
			t.Errorf("listed as %q: %v, %v, want %d", state, list, err, want)
		}
		for _, a := range list.GetApprovals() {
			if a.GetStatus() != "EXPIRED" {
				t.Errorf("%s is %s", a.GetApprovalId(), a.GetStatus())
			}
		}
	}
}

// runOut puts an approval's end into the past, as its time to live would.
func (w *world) runOut(t *testing.T, _ *governancev1.AuthorizeRequest, id string) {
	t.Helper()
	err := w.db.DB.WithTenant(t.Context(), w.tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `update fulcrum.approvals set expires_at = now() - interval '1 second' where tenant_id = $1 and id = $2`, w.tenant, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refusals are the reasons of the events that refuse an approval in a tenant.
func (w *world) refusals(t *testing.T, approval string, tenant uuid.UUID) (reasons []string) {
	t.Helper()
	err := w.db.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := tx.Query(ctx, `select event from fulcrum.outbox where tenant_id = $1 and type = 'approval_refused'`, tenant)
		if err != nil {
			return err
		}
		raws, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		for _, raw := range raws {
			event := new(busv1.Event)
			if err := proto.Unmarshal(raw, event); err != nil {
				return err
			}
			if event.GetLabels()["approval_id"] != approval {
				continue
			}
			if event.GetActor() == "" || event.GetTenantId() != tenant.String() {
				t.Errorf("an event of nobody's: %v", event)
			}
			reasons = append(reasons, event.GetLabels()["reason"])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return reasons
}
