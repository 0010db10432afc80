package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
)

func test(name string) *policyv1.PolicyTest {
	return &policyv1.PolicyTest{
		Name:  name,
		Input: &policyv1.PolicyTestInput{ToolNames: []string{"shell"}},
		Want:  &policyv1.PolicyTestWant{Decision: governancev1.Decision_DECISION_DENY},
	}
}

func (b *bench) addVersion(ctx context.Context, id, description string) *lifecyclev1.PolicyVersion {
	b.t.Helper()
	resp, err := b.lifecycle.CreatePolicyVersion(ctx, &lifecyclev1.CreatePolicyVersionRequest{Policy: &policyv1.Policy{PolicyId: id, Description: description}})
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.GetVersion()
}

// Whichever way a policy comes into force, its tests stand before it.
func TestNothingComesIntoForceWhoseTestsFail(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.all()
	refused := func(what string, err error) {
		t.Helper()
		wantKind(t, what, err, fault.Invalid, "POLICY_TESTS_FAILED")
		f, _ := fault.As(rpc.FromStatus(err))
		if !strings.Contains(fmt.Sprint(f.Violations), `test "fails at night": the decision is ALLOW, wanted DENY`) {
			t.Errorf("%s does not name the case: %v", what, f.Violations)
		}
		var n int
		if b.query(`select count(*) from fulcrum.policies where status = 'ACTIVE'`, nil, &n); n != 0 {
			t.Errorf("%s: %d policies are in force", what, n)
		}
	}
	bad := active("no shell")
	bad.Tests = []*policyv1.PolicyTest{test("passes"), test("fails at night")}
	_, err := b.policy.CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: bad})
	refused("create in force", err)

	bad.Status = isDraft
	p := b.createPolicy(ctx, bad)
	_, err = b.policy.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Status: isActive}, UpdateMask: []string{"status"}})
	refused("activate by update", err)
	_, err = b.lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{PolicyId: p.GetPolicyId()})
	refused("activate", err)

	got, err := b.policy.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Tests: []*policyv1.PolicyTest{test("passes"), test("passes too")}}})
	if err != nil || got.GetPolicy().GetVersion() != 2 || len(got.GetPolicy().GetTests()) != 2 {
		t.Fatalf("other tests are another version: %v %v", got, err)
	}
	_, err = b.lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{PolicyId: p.GetPolicyId(), MinCoveragePercent: 60})
	wantKind(t, "too little coverage", err, fault.Invalid, "POLICY_COVERAGE_TOO_LOW")
	done, err := b.lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{PolicyId: p.GetPolicyId(), MinCoveragePercent: 50, Reason: "reviewed"})
	if err != nil || len(done.GetTests().GetResults()) != 2 || done.GetPolicy().GetStatus() != isActive {
		t.Fatalf("activate: %v %v", done, err)
	}
	bundle := b.policyBundle(b.tenantA)
	if bundle.GetVersion() != done.GetPolicySetVersion() || len(bundle.GetPolicies()) != 1 || len(bundle.GetPolicies()[0].GetTests()) != 0 {
		t.Errorf("the bundle has version %d, want %d, and no tests: %v", bundle.GetVersion(), done.GetPolicySetVersion(), bundle.GetPolicies())
	}
	// An edit of what is in force is judged by its tests as well.
	_, err = b.policy.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Tests: []*policyv1.PolicyTest{test("fails at night")}}})
	wantKind(t, "edit", err, fault.Invalid, "POLICY_TESTS_FAILED")
	if again := b.policyBundle(b.tenantA); again.GetVersion() != bundle.GetVersion() {
		t.Error("a refused edit published something")
	}
	for what, tests := range map[string][]*policyv1.PolicyTest{"a name twice": {test("x"), test("x")}} {
		_, err = b.policy.CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{Name: "p", Tests: tests}})
		wantKind(t, what, err, fault.Invalid, "POLICY_INVALID")
	}
	ran, err := b.lifecycle.TestPolicy(ctx, &lifecyclev1.TestPolicyRequest{PolicyId: p.GetPolicyId(), Version: 1})
	if err != nil || ran.GetPassed() || len(ran.GetResults()) != 2 {
		t.Errorf("the tests of version 1: %v %v", ran, err)
	}
}

func TestTheNextVersionWaitsBesideTheOneInForce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.all()
	p := b.createPolicy(ctx, active("no shell"))
	before := b.policyBundle(b.tenantA)

	v := b.addVersion(ctx, p.GetPolicyId(), "second")
	if v.GetPolicy().GetVersion() != 2 || v.GetCurrent() || v.GetPolicy().GetEtag() == p.GetEtag() {
		t.Errorf("version: %v", v)
	}
	if again := b.addVersion(ctx, p.GetPolicyId(), "second"); again.GetPolicy().GetVersion() != 2 {
		t.Errorf("the same content made version %d", again.GetPolicy().GetVersion())
	}
	b.addVersion(ctx, p.GetPolicyId(), "third")
	if now := b.policyBundle(b.tenantA); !cmp.Equal(now, before, protocmp.Transform()) {
		t.Error("a version that waits changed the bundle")
	}
	_, err := b.lifecycle.CreatePolicyVersion(ctx, &lifecyclev1.CreatePolicyVersionRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Etag: p.GetEtag(), Description: "late"}})
	wantKind(t, "a stale etag", err, fault.Conflict, "ETAG_MISMATCH")

	// An ordinary update of the one in force does not take a number that is taken.
	got, err := b.policy.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Priority: 7}, UpdateMask: []string{"priority"}})
	if err != nil || got.GetPolicy().GetVersion() != 4 || got.GetPolicy().GetDescription() != p.GetDescription() {
		t.Errorf("update: %v %v", got, err)
	}
	list, err := b.lifecycle.ListPolicyVersions(ctx, &lifecyclev1.ListPolicyVersionsRequest{PolicyId: p.GetPolicyId(), PageSize: 3})
	if err != nil || len(list.GetVersions()) != 3 || list.GetNextPageToken() == "" || !list.GetVersions()[0].GetCurrent() || list.GetVersions()[1].GetPolicy().GetDescription() != "third" {
		t.Fatalf("list: %v %v", list, err)
	}
	rest, err := b.lifecycle.ListPolicyVersions(ctx, &lifecyclev1.ListPolicyVersionsRequest{PolicyId: p.GetPolicyId(), PageSize: 3, PageToken: list.GetNextPageToken()})
	if err != nil || len(rest.GetVersions()) != 1 || rest.GetVersions()[0].GetPolicy().GetVersion() != 1 {
		t.Errorf("rest: %v %v", rest, err)
	}
	one, err := b.lifecycle.GetPolicyVersion(ctx, &lifecyclev1.GetPolicyVersionRequest{PolicyId: p.GetPolicyId(), Version: 2})
	if err != nil || one.GetVersion().GetPolicy().GetDescription() != "second" {
		t.Errorf("version 2: %v %v", one, err)
	}
	_, err = b.lifecycle.GetPolicyVersion(ctx, &lifecyclev1.GetPolicyVersionRequest{PolicyId: p.GetPolicyId(), Version: 9})
	wantKind(t, "version 9", err, fault.NotFound, "")
}

func TestRollingBackMovesThePointerAndTheHistoryTellsIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.all()
	p := b.createPolicy(ctx, draft("no shell"))
	id := p.GetPolicyId()
	activate := func(version int64, reason string) *lifecyclev1.ActivatePolicyResponse {
		t.Helper()
		got, err := b.lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{PolicyId: id, Version: version, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	_, err := b.lifecycle.RollBackPolicy(ctx, &lifecyclev1.RollBackPolicyRequest{PolicyId: id, Version: 1})
	wantKind(t, "back to what never was in force", err, fault.Precondition, "NEVER_IN_FORCE")
	activate(0, "first")
	b.addVersion(ctx, id, "second")
	b.addVersion(ctx, id, "third")
	activate(3, "third is better")
	if again := activate(3, "again"); again.GetPolicySetVersion() != 0 {
		t.Errorf("activating what is in force published version %d", again.GetPolicySetVersion())
	}
	_, err = b.lifecycle.RollBackPolicy(ctx, &lifecyclev1.RollBackPolicyRequest{PolicyId: id, Version: 2})
	wantKind(t, "back to version 2", err, fault.Precondition, "NEVER_IN_FORCE")
	_, err = b.lifecycle.RollBackPolicy(ctx, &lifecyclev1.RollBackPolicyRequest{PolicyId: id, Etag: "r1"})
	wantKind(t, "back by a stale etag", err, fault.Conflict, "ETAG_MISMATCH")

	// With the engine away and its tests failing, the way back is open.
	b.engine.refuse(fault.New(fault.Down, "away"))
	now, err := b.policy.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: id})
	if err != nil {
		t.Fatal(err)
	}
	back, err := b.lifecycle.RollBackPolicy(ctx, &lifecyclev1.RollBackPolicyRequest{PolicyId: id, Etag: now.GetPolicy().GetEtag(), Reason: "it denied everything"})
	if err != nil || back.GetPolicy().GetVersion() != 1 || back.GetPolicy().GetDescription() != p.GetDescription() {
		t.Fatalf("roll back: %v %v", back, err)
	}
	_, err = b.lifecycle.RollBackPolicy(ctx, &lifecyclev1.RollBackPolicyRequest{PolicyId: id, Etag: now.GetPolicy().GetEtag()})
	wantKind(t, "the same call again", err, fault.Conflict, "ETAG_MISMATCH")
	b.engine.refuse(nil)

	bundle := b.policyBundle(b.tenantA)
	if bundle.GetVersion() != back.GetPolicySetVersion() || bundle.GetPolicies()[0].GetVersion() != 1 {
		t.Errorf("bundle: %v", bundle)
	}
	var versions int
	b.query(`select count(*) from fulcrum.policy_versions where policy_id = $1`, []any{id}, &versions)
	if versions != 3 {
		t.Errorf("rolling back made a version: %d", versions)
	}
	got, err := b.policy.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: id, Description: "fifth"}})
	if err != nil || got.GetPolicy().GetVersion() != 4 {
		t.Fatalf("after a roll back the next version is %v, %v", got, err)
	}
	if _, err := b.policy.DeletePolicy(ctx, &policyv1.DeletePolicyRequest{PolicyId: b.createPolicy(ctx, active("other")).GetPolicyId()}); err != nil {
		t.Fatal(err)
	}
	history, err := b.lifecycle.ListPolicyActivations(ctx, &lifecyclev1.ListPolicyActivationsRequest{PolicyId: id})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, a := range history.GetActivations() {
		lines = append(lines, fmt.Sprintf("%s %d from %d by %s: %s", a.GetAction(), a.GetVersion(), a.GetFromVersion(), a.GetActor(), a.GetReason()))
		if a.GetAt() == nil || a.GetPolicySetVersion() == 0 {
			t.Errorf("activation: %v", a)
		}
	}
	want := []string{
		"edit 4 from 1 by user:ada: ", "rollback 1 from 3 by user:ada: it denied everything",
		"activate 3 from 1 by user:ada: third is better", "activate 1 from 0 by user:ada: first",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	events := b.events(b.tenantA)
	if !slices.ContainsFunc(events, func(e *busv1.Event) bool { return e.GetAction() == "policy.rollback" }) {
		t.Error("no event tells of the roll back")
	}
}

func TestOnlyApproversActivateAndRollBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.createPolicy(b.all(), draft("no shell"))
	writer := as(t.Context(), b.tenantA, "policy:write", "policy:read")
	_, err := b.lifecycle.ActivatePolicy(writer, &lifecyclev1.ActivatePolicyRequest{PolicyId: p.GetPolicyId()})
	wantKind(t, "activate", err, fault.Denied, "")
	_, err = b.lifecycle.RollBackPolicy(writer, &lifecyclev1.RollBackPolicyRequest{PolicyId: p.GetPolicyId(), Version: 1})
	wantKind(t, "roll back", err, fault.Denied, "")
	other := as(t.Context(), dbtest.Tenant(t, b.Database), "*")
	for what, call := range map[string]func() error{
		"activate": func() error {
			_, err := b.lifecycle.ActivatePolicy(other, &lifecyclev1.ActivatePolicyRequest{PolicyId: p.GetPolicyId()})
			return err
		},
		"roll back": func() error {
			_, err := b.lifecycle.RollBackPolicy(other, &lifecyclev1.RollBackPolicyRequest{PolicyId: p.GetPolicyId(), Version: 1})
			return err
		},
		"add": func() error {
			_, err := b.lifecycle.CreatePolicyVersion(other, &lifecyclev1.CreatePolicyVersionRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Description: "x"}})
			return err
		},
		"versions": func() error {
			_, err := b.lifecycle.ListPolicyVersions(other, &lifecyclev1.ListPolicyVersionsRequest{PolicyId: p.GetPolicyId()})
			return err
		},
		"version": func() error {
			_, err := b.lifecycle.GetPolicyVersion(other, &lifecyclev1.GetPolicyVersionRequest{PolicyId: p.GetPolicyId(), Version: 1})
			return err
		},
		"history": func() error {
			_, err := b.lifecycle.ListPolicyActivations(other, &lifecyclev1.ListPolicyActivationsRequest{PolicyId: p.GetPolicyId()})
			return err
		},
		"test": func() error {
			_, err := b.lifecycle.TestPolicy(other, &lifecyclev1.TestPolicyRequest{PolicyId: p.GetPolicyId()})
			return err
		},
		"lint": func() error {
			_, err := b.lifecycle.LintPolicy(other, &lifecyclev1.LintPolicyRequest{PolicyId: p.GetPolicyId()})
			return err
		},
		"shadow": func() error {
			_, err := b.lifecycle.StartPolicyShadow(other, &lifecyclev1.StartPolicyShadowRequest{PolicyId: p.GetPolicyId(), Percent: 5})
			return err
		},
		"unshadow": func() error {
			_, err := b.lifecycle.StopPolicyShadow(other, &lifecyclev1.StopPolicyShadowRequest{PolicyId: p.GetPolicyId()})
			return err
		},
		"export": func() error {
			_, err := b.lifecycle.ExportPolicies(other, &lifecyclev1.ExportPoliciesRequest{PolicyIds: []string{p.GetPolicyId()}})
			return err
		},
	} {
		wantKind(t, what+" another tenant's policy", call(), fault.NotFound, "")
	}
}

// Of many who move the pointer by the same etag, one does.
func TestOnePointerMovesOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.all()
	p := b.createPolicy(ctx, active("no shell"))
	b.addVersion(ctx, p.GetPolicyId(), "second")
	now, err := b.policy.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: p.GetPolicyId()})
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	var mu sync.Mutex
	done, stale := 0, 0
	for range 8 {
		g.Go(func() error {
			_, err := b.lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{PolicyId: p.GetPolicyId(), Version: 2, Etag: now.GetPolicy().GetEtag()})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case errors.Is(rpc.FromStatus(err), fault.Conflict):
				stale++
			default:
				return err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil || done != 1 || stale != 7 {
		t.Errorf("%d moved it, %d were late, %v", done, stale, err)
	}
	var entries int
	b.query(`select count(*) from fulcrum.policy_activations where policy_id = $1 and version = 2`, []any{p.GetPolicyId()}, &entries)
	if entries != 1 {
		t.Errorf("%d entries in the history", entries)
	}
}

func TestAShadowIsPublishedUntilItIsStoppedOrInForce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.all()
	p := b.createPolicy(ctx, active("no shell"))
	_, err := b.lifecycle.StartPolicyShadow(ctx, &lifecyclev1.StartPolicyShadowRequest{PolicyId: p.GetPolicyId(), Percent: 10})
	wantKind(t, "the version in force", err, fault.Precondition, "VERSION_IN_FORCE")
	b.addVersion(ctx, p.GetPolicyId(), "second")
	started, err := b.lifecycle.StartPolicyShadow(ctx, &lifecyclev1.StartPolicyShadowRequest{PolicyId: p.GetPolicyId(), Percent: 12.5})
	if err != nil {
		t.Fatal(err)
	}
	bundle := b.policyBundle(b.tenantA)
	if s := bundle.GetShadows(); len(s) != 1 || s[0].GetSharePerMyriad() != 1250 || s[0].GetPolicy().GetVersion() != 2 || s[0].GetPolicy().GetPolicyId() != p.GetPolicyId() ||
		bundle.GetPolicies()[0].GetVersion() != 1 || bundle.GetVersion() != started.GetPolicySetVersion() {
		t.Errorf("bundle: %v", bundle)
	}
	list, err := b.lifecycle.ListPolicyShadows(ctx, &lifecyclev1.ListPolicyShadowsRequest{})
	if err != nil || len(list.GetShadows()) != 1 || list.GetShadows()[0].GetPercent() != 12.5 || list.GetShadows()[0].GetStartedBy() != "user:ada" {
		t.Errorf("list: %v %v", list, err)
	}
	other, err := b.lifecycle.ListPolicyShadows(as(t.Context(), dbtest.Tenant(t, b.Database), "*"), &lifecyclev1.ListPolicyShadowsRequest{})
	if err != nil || len(other.GetShadows()) != 0 {
		t.Errorf("another tenant sees %v %v", other, err)
	}
	for _, want := range []bool{true, false} {
		stopped, err := b.lifecycle.StopPolicyShadow(ctx, &lifecyclev1.StopPolicyShadowRequest{PolicyId: p.GetPolicyId()})
		if err != nil || stopped.GetStopped() != want {
			t.Errorf("stop: %v %v", stopped, err)
		}
	}
	if _, err := b.lifecycle.StartPolicyShadow(ctx, &lifecyclev1.StartPolicyShadowRequest{PolicyId: p.GetPolicyId(), Version: 2, Percent: 100}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.lifecycle.ActivatePolicy(ctx, &lifecyclev1.ActivatePolicyRequest{PolicyId: p.GetPolicyId(), Version: 2}); err != nil {
		t.Fatal(err)
	}
	if s := b.policyBundle(b.tenantA).GetShadows(); len(s) != 0 {
		t.Errorf("a version in force is still in shadow: %v", s)
	}
}

func TestABundleArrivesAsItWasSignedOrNotAtAll(t *testing.T) {
	t.Parallel()
	b, elsewhere := newBench(t), newBench(t)
	ctx := b.all()
	tested := active("no shell")
	tested.Tests = []*policyv1.PolicyTest{test("passes")}
	b.createPolicy(ctx, tested)
	b.createPolicy(ctx, draft("refunds"))
	out, err := b.lifecycle.ExportPolicies(ctx, &lifecyclev1.ExportPoliciesRequest{})
	if err != nil || out.GetPolicies() != 2 || out.GetKeyName() != "test/policies" {
		t.Fatalf("export: %v %v", out, err)
	}
	there := as(t.Context(), dbtest.Tenant(t, b.Database), "*")
	refuse := func(what, reason string, bundle []byte, on *bench) {
		t.Helper()
		_, err := on.lifecycle.ImportPolicies(as(t.Context(), on.tenantA, "*"), &lifecyclev1.ImportPoliciesRequest{Bundle: bundle})
		wantKind(t, what, err, fault.Invalid, reason)
	}
	refuse("a key that nobody trusts", "BUNDLE_KEY_UNKNOWN", out.GetBundle(), elsewhere)
	refuse("another text", "BUNDLE_TAMPERED", bytes.Replace(out.GetBundle(), []byte("refunds"), []byte("refundz"), 1), b)
	refuse("another value", "BUNDLE_TAMPERED", bytes.Replace(out.GetBundle(), []byte("ENFORCEMENT_LEVEL_BLOCK"), []byte("ENFORCEMENT_LEVEL_AUDIT"), 1), b)
	refuse("no signature", "BUNDLE_UNSIGNED", []byte(`{"policies":{"format":"fulcrum-policies/1"},"signature":{"key":"test/policies"}}`), b)
	refuse("two texts, one of them signed", "BUNDLE_MALFORMED", bytes.Replace(out.GetBundle(), []byte(`{`), []byte(`{"policies":{},`), 1), b)
	refuse("nothing of the kind", "BUNDLE_MALFORMED", []byte("hello"), b)
	if n, _, err := elsewhere.count(); err != nil || n != 0 {
		t.Errorf("a refused bundle left %d policies, %v", n, err)
	}

	dry, err := b.lifecycle.ImportPolicies(there, &lifecyclev1.ImportPoliciesRequest{Bundle: out.GetBundle(), DryRun: true})
	if err != nil || len(dry.GetPolicies()) != 2 || dry.GetPolicies()[0].GetPolicyId() != "" {
		t.Fatalf("dry run: %v %v", dry, err)
	}
	// Another spelling of the same is the same.
	respelt := bytes.ReplaceAll(out.GetBundle(), []byte("\n"), []byte("\r\n  "))
	in, err := b.lifecycle.ImportPolicies(there, &lifecyclev1.ImportPoliciesRequest{Bundle: respelt})
	if err != nil || len(in.GetPolicies()) != 2 {
		t.Fatalf("import: %v %v", in, err)
	}
	for _, p := range in.GetPolicies() {
		got, err := b.policy.GetPolicy(there, &policyv1.GetPolicyRequest{PolicyId: p.GetPolicyId()})
		if err != nil || p.GetChange() != "created" || got.GetPolicy().GetStatus() != isDraft {
			t.Errorf("imported %v: %v %v", p, got, err)
		}
		if p.GetName() == "no shell" && (len(got.GetPolicy().GetTests()) != 1 || got.GetPolicy().GetTests()[0].GetName() != "passes") {
			t.Errorf("its tests did not come along: %v", got)
		}
	}
	again, err := b.lifecycle.ImportPolicies(there, &lifecyclev1.ImportPoliciesRequest{Bundle: out.GetBundle()})
	if err != nil || again.GetPolicies()[0].GetChange() != "unchanged" || again.GetPolicies()[1].GetChange() != "unchanged" {
		t.Errorf("the same bundle again: %v %v", again, err)
	}
}

func (b *bench) count() (int, int32, error) {
	list, err := b.policy.ListPolicies(b.all(), &policyv1.ListPoliciesRequest{})
	return len(list.GetPolicies()), list.GetTotalCount(), err
}

// A bundle is taken whole or not at all: what is wrong with its last policy, or
// stands in its way, leaves the first as it was.
func TestABundleIsTakenAsAWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.all()
	b.createPolicy(ctx, active("first"))
	b.createPolicy(ctx, active("second"))
	bundle := b.export(t)
	there := dbtest.Tenant(t, b.Database)
	dbtest.Admin(t, b.Database, `create function fulcrum.fail_second() returns trigger language plpgsql as $f$
		begin
			if new.tenant_id = '`+there.String()+`' and (select count(*) from fulcrum.policies where tenant_id = new.tenant_id) > 1 then
				raise exception 'the disk is full';
			end if;
			return new;
		end $f$`, `create trigger fail_second after insert on fulcrum.policies for each row execute function fulcrum.fail_second()`)
	if _, err := b.lifecycle.ImportPolicies(as(t.Context(), there, "*"), &lifecyclev1.ImportPoliciesRequest{Bundle: bundle}); err == nil {
		t.Fatal("it was taken")
	}
	list, err := b.policy.ListPolicies(as(t.Context(), there, "*"), &policyv1.ListPoliciesRequest{})
	if err != nil || len(list.GetPolicies()) != 0 || len(b.events(there)) != 0 {
		t.Errorf("half of it is there: %v, %v, %d events", list, err, len(b.events(there)))
	}
}

func (b *bench) export(t *testing.T) []byte {
	t.Helper()
	out, err := b.lifecycle.ExportPolicies(b.all(), &lifecyclev1.ExportPoliciesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return out.GetBundle()
}

// An older bundle of a source whose later one was taken would bring back what was
// changed since: it is refused, whoever kept it, unless that is meant.
func TestAnOlderBundleIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.createPolicy(b.all(), active("refunds"))
	older := b.export(t)
	stricter := proto.CloneOf(p)
	stricter.Description = "stricter"
	if _, err := b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{Policy: stricter, UpdateMask: []string{"description"}}); err != nil {
		t.Fatal(err)
	}
	later := b.export(t)
	for at := exportedAt(t, older); !exportedAt(t, later).After(at); later = b.export(t) { // bundles tell seconds apart
		<-time.After(50 * time.Millisecond)
	}
	there := as(t.Context(), dbtest.Tenant(t, b.Database), "*")
	take := func(bundle []byte, change ...func(*lifecyclev1.ImportPoliciesRequest)) (*lifecyclev1.ImportPoliciesResponse, error) {
		req := &lifecyclev1.ImportPoliciesRequest{Bundle: bundle}
		for _, c := range change {
			c(req)
		}
		return b.lifecycle.ImportPolicies(there, req)
	}
	took := func(what, want string, resp *lifecyclev1.ImportPoliciesResponse, err error) {
		t.Helper()
		if err != nil || len(resp.GetPolicies()) != 1 || resp.GetPolicies()[0].GetChange() != want {
			t.Fatalf("%s: %v, %v", what, resp, err)
		}
	}
	resp, err := take(later)
	took("the later", "created", resp, err)
	_, err = take(older)
	wantKind(t, "the older", err, fault.Precondition, "BUNDLE_OUTDATED")
	_, err = take(older, func(r *lifecyclev1.ImportPoliciesRequest) { r.DryRun = true })
	wantKind(t, "the older, tried", err, fault.Precondition, "BUNDLE_OUTDATED")
	resp, err = take(later)
	took("the later again", "unchanged", resp, err)
	resp, err = take(older, func(r *lifecyclev1.ImportPoliciesRequest) { r.AllowOlder = true })
	took("the older, meant", "updated", resp, err)
	resp, err = take(later)
	took("the later after it", "updated", resp, err)
	// Another tenant has taken nothing yet.
	elsewhere := as(t.Context(), dbtest.Tenant(t, b.Database), "*")
	if resp, err := b.lifecycle.ImportPolicies(elsewhere, &lifecyclev1.ImportPoliciesRequest{Bundle: older}); err != nil || len(resp.GetPolicies()) != 1 {
		t.Errorf("another tenant: %v, %v", resp, err)
	}
}

func exportedAt(t *testing.T, bundle []byte) time.Time {
	t.Helper()
	var b struct {
		Policies struct {
			ExportedAt time.Time `json:"exported_at"`
		} `json:"policies"`
	}
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	return b.Policies.ExportedAt
}
