package api_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
)

// Rows, bundle and events are one transaction, so there is no point between
// them at which a process could die. What the last statement refuses, the first
// has not done either.
func TestAChangeHappensAsAWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.createPolicy(b.all(), active("before"))
	before, events := b.policyBundle(b.tenantA), len(b.events(b.tenantA))
	dbtest.Admin(t, b.Database, `revoke insert on fulcrum.outbox from fulcrum_app`)

	for name, err := range map[string]error{
		"create policy": call(b.policy.CreatePolicy(b.all(), &policyv1.CreatePolicyRequest{Policy: active("after")})),
		"update policy": call(b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Name: "after"}})),
		"delete policy": call(b.policy.DeletePolicy(b.all(), &policyv1.DeletePolicyRequest{PolicyId: p.GetPolicyId()})),
		"create key":    call(b.keys.CreateApiKey(b.all(), &tenantv1.CreateApiKeyRequest{Name: "k", Scopes: []string{"cost:read"}})),
		"create tenant": call(b.admin.CreateTenant(b.asAdmin(), &controlplanev1.CreateTenantRequest{Name: "t", IdempotencyKey: "k"})),
	} {
		if err == nil {
			t.Errorf("%s without its event succeeded", name)
		}
		if _, ok := fault.As(err); ok {
			t.Errorf("%s: %v; a failure of ours must not look like the caller's", name, err)
		}
	}
	after := b.policyBundle(b.tenantA)
	if diff := cmp.Diff(before, after, protocmp.Transform()); diff != "" {
		t.Errorf("bundle changed:\n%s", diff)
	}
	got, err := b.policy.GetPolicy(b.all(), &policyv1.GetPolicyRequest{PolicyId: p.GetPolicyId()})
	if err != nil || !cmp.Equal(got.GetPolicy(), p, protocmp.Transform()) {
		t.Errorf("policy changed to %v (%v)", got, err)
	}
	for table, want := range map[string]int{"policies": 1, "policy_versions": 1, "api_keys": 0, "tenants": 1} {
		var n int
		if b.query(fmt.Sprintf(`select count(*) from fulcrum.%s`, table), nil, &n); n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
	if n := len(b.events(b.tenantA)); n != events {
		t.Errorf("%d events, want %d", n, events)
	}
}

// call drops what a call returned beside its error.
func call(_ any, err error) error { return err }

// lost is a caller's view of a call whose answer never came.
var errLost = errors.New("the connection broke")

// A caller that hears nothing asks again, perhaps several times at once. With a
// key there is one entry in the end, and every answer describes it.
func TestALostAnswerCreatesOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, tt := range []struct {
		table  string
		create func(ctx context.Context) (string, error)
	}{
		{"policies", func(ctx context.Context) (string, error) {
			r, err := b.policy.CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: active("once")})
			return r.GetPolicy().String(), err
		}},
		{"budgets", func(ctx context.Context) (string, error) {
			r, err := b.cost.CreateBudget(ctx, &costv1.CreateBudgetRequest{Budget: daily("once", 3)})
			return r.GetBudget().String(), err
		}},
		{"agents", func(ctx context.Context) (string, error) {
			r, err := b.agents.CreateAgent(ctx, &agentv1.CreateAgentRequest{Name: "once"})
			return r.GetAgent().String(), err
		}},
	} {
		ctx := withKey(b.all(), "create-"+tt.table)
		first, err := tt.create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// From the caller's side the first answer was lost: errLost.
		for _, repeat := range []error{errLost, errLost} {
			again, err := tt.create(ctx)
			if err != nil || again != first {
				t.Errorf("%s after %v: %s (%v), want %s", tt.table, repeat, again, err, first)
			}
		}
		var g errgroup.Group
		answers := make([]string, 8)
		for i := range answers {
			g.Go(func() (err error) {
				answers[i], err = tt.create(withKey(b.all(), "race-"+tt.table))
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Errorf("%s, racing: %v", tt.table, err)
		}
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("%s, racing: %s and %s", tt.table, a, answers[0])
			}
		}
		var n int
		if b.query(fmt.Sprintf(`select count(*) from fulcrum.%s`, tt.table), nil, &n); n != 2 {
			t.Errorf("%d rows in %s, want 2", n, tt.table)
		}
	}
}

// A key stands for one request: with another body it is a mistake, and with
// another tenant's it has nothing to do.
func TestAKeyStandsForOneRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := withKey(b.all(), "k")
	p := b.createPolicy(ctx, draft("one"))
	asked := b.engine.questions()
	_, err := b.policy.CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: draft("another")})
	wantKind(t, "another body", err, fault.Conflict, "IDEMPOTENCY_KEY_REUSED")
	_, err = b.cost.CreateBudget(ctx, &costv1.CreateBudgetRequest{Budget: daily("x", 1)})
	wantKind(t, "another method", err, fault.Conflict, "IDEMPOTENCY_KEY_REUSED")
	_, err = b.policy.CreatePolicy(withKey(ctx, "l"), &policyv1.CreatePolicyRequest{Policy: draft("one")})
	wantKind(t, "two keys", err, fault.Invalid, "")
	_, err = b.policy.CreatePolicy(withKey(b.all(), fmt.Sprintf("%0200d", 1)), &policyv1.CreatePolicyRequest{Policy: draft("one")})
	wantKind(t, "a long key", err, fault.Invalid, "")

	// The answer is as it was, although the policy-engine is away by now.
	b.engine.refuse(fault.New(fault.Down, "away"))
	again := b.createPolicy(ctx, draft("one"))
	if !cmp.Equal(again, p, protocmp.Transform()) || b.engine.questions() != asked {
		t.Errorf("repeated: %v, want %v", again, p)
	}
	b.engine.refuse(nil)

	other := withKey(as(t.Context(), dbtest.Tenant(t, b.Database), "*"), "k")
	theirs := b.createPolicy(other, draft("theirs"))
	if theirs.GetName() != "theirs" || theirs.GetTenantId() == b.tenantA.String() {
		t.Errorf("another tenant got %v", theirs)
	}

	dbtest.Admin(t, b.Database, `update fulcrum.control_idempotency set created_at = now() - interval '8 days'`)
	if fresh := b.createPolicy(ctx, draft("another")); fresh.GetName() != "another" {
		t.Errorf("after a week the key still means %v", fresh)
	}
}

func TestEventsAnnounceThemselvesToTheRelay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.createBudget(b.all(), daily("x", 1))
	select {
	case <-b.nudges:
	case <-time.After(10 * time.Second):
		t.Error("the relay was not told")
	}
}
