package api_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

func register(name, schema string) *controlplanev1.RegisterToolRequest {
	return &controlplanev1.RegisterToolRequest{Tool: &controlplanev1.Tool{Name: name, InputSchema: schema}}
}

func TestARegisteredToolIsPublishedWithThePolicies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	made, err := b.tools.RegisterTool(b.all(), register("pay", `{"type":"object"}`))
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.tools.RegisterTool(b.all(), register("pay", `{"type":"object"}`))
	if err != nil || again.GetPolicySetVersion() != 0 || !cmp.Equal(again.GetTool(), made.GetTool(), protocmp.Transform()) {
		t.Errorf("again: %v, %v", again, err)
	}
	changed, err := b.tools.RegisterTool(b.all(), register("pay", `{"type":"object","required":["amount"]}`))
	if err != nil || changed.GetPolicySetVersion() != made.GetPolicySetVersion()+1 {
		t.Errorf("changed: %v, %v", changed, err)
	}
	got := b.policyBundle(b.tenantA)
	want := []*configv1.ToolSchema{{Name: "pay", InputSchema: `{"type":"object","required":["amount"]}`}}
	if diff := cmp.Diff(want, got.GetTools(), protocmp.Transform()); diff != "" || got.GetVersion() != changed.GetPolicySetVersion() {
		t.Errorf("bundle %d: %s", got.GetVersion(), diff)
	}
	gone, err := b.tools.DeleteTool(b.all(), &controlplanev1.DeleteToolRequest{Name: "pay"})
	if err != nil || len(b.policyBundle(b.tenantA).GetTools()) != 0 || gone.GetPolicySetVersion() != changed.GetPolicySetVersion()+1 {
		t.Errorf("deleted: %v, %v", gone, err)
	}
	var facts []string
	for _, e := range b.events(b.tenantA) {
		if e.GetResource() == "tool:pay" {
			facts = append(facts, e.GetType())
		}
	}
	if diff := cmp.Diff([]string{"tool_registered", "tool_updated", "tool_deleted"}, facts); diff != "" {
		t.Errorf("events: %s", diff)
	}
}

func TestToolsAreListedByPage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("tool-%d", i))
		if _, err := b.tools.RegisterTool(b.all(), register(want[i], "")); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for token := ""; ; {
		page, err := b.tools.ListTools(b.all(), &controlplanev1.ListToolsRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, tool := range page.GetTools() {
			got = append(got, tool.GetName())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is refused, for whatever reason, changes nothing.
func TestAToolThatIsRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.tools.RegisterTool(b.all(), register("pay", "")); err != nil {
		t.Fatal(err)
	}
	before, events := b.policyBundle(b.tenantA), len(b.events(b.tenantA))

	_, err := b.tools.RegisterTool(b.all(), register(" pay", ""))
	wantKind(t, "a name with a blank", err, fault.Invalid, "")
	_, err = b.tools.RegisterTool(b.all(), &controlplanev1.RegisterToolRequest{})
	wantKind(t, "no tool", err, fault.Invalid, "")
	for _, scope := range []string{"policy:read", "policy:write"} { // it takes effect at once, so it needs policy:approve
		_, err = b.tools.RegisterTool(as(t.Context(), b.tenantA, scope), register("pay", "{}"))
		wantKind(t, scope, err, fault.Denied, "")
		_, err = b.tools.DeleteTool(as(t.Context(), b.tenantA, scope), &controlplanev1.DeleteToolRequest{Name: "pay"})
		wantKind(t, scope, err, fault.Denied, "")
	}
	other := as(t.Context(), dbtest.Tenant(t, b.Database), "*")
	_, err = b.tools.DeleteTool(other, &controlplanev1.DeleteToolRequest{Name: "pay"})
	wantKind(t, "another tenant", err, fault.NotFound, "")
	if page, err := b.tools.ListTools(other, &controlplanev1.ListToolsRequest{}); err != nil || len(page.GetTools()) != 0 {
		t.Errorf("another tenant lists %v, %v", page, err)
	}
	b.engine.refuse(fault.Field("tool.input_schema", "is no schema"))
	_, err = b.tools.RegisterTool(b.all(), register("pay", `{"type":"moneyy"}`))
	wantKind(t, "a schema that cannot be used", err, fault.Invalid, "")
	b.engine.refuse(fault.New(fault.Down, "away"))
	_, err = b.tools.RegisterTool(b.all(), register("pay", "{}"))
	wantKind(t, "nobody to ask", err, fault.Down, "")

	after := b.policyBundle(b.tenantA)
	if diff := cmp.Diff(before, after, protocmp.Transform()); diff != "" || len(b.events(b.tenantA)) != events {
		t.Errorf("%d events before, %d after; bundle: %s", events, len(b.events(b.tenantA)), diff)
	}
}

// The limit holds under the lock, whoever comes at once.
func TestNobodyRegistersMoreThanAThousandTools(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.query(`with made as (insert into fulcrum.tools (tenant_id, name) select $1, 'tool ' || i from generate_series(1, 998) i returning 1) select count(*) from made`,
		[]any{b.tenantA}, new(int))
	var g errgroup.Group
	stored := make([]bool, 6)
	for i := range stored {
		g.Go(func() error {
			_, err := b.tools.RegisterTool(b.all(), register("new "+uuid.NewString(), ""))
			if stored[i] = err == nil; err != nil {
				wantKind(t, "one too many", err, fault.Exhausted, "TOO_MANY_TOOLS")
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, ok := range stored {
		if ok {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d were stored beside 998, want 2", n)
	}
}

func TestTheUnknownToolSettingMustBeADecision(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.admin.UpdateTenantSettings(b.asAdmin(), &controlplanev1.UpdateTenantSettingsRequest{
		TenantId: b.tenantA.String(), Settings: &configv1.TenantSettings{UnknownTool: 77},
	})
	wantKind(t, "77", err, fault.Invalid, "")
	_, err = b.admin.UpdateTenantSettings(b.asAdmin(), &controlplanev1.UpdateTenantSettingsRequest{
		TenantId: b.tenantA.String(), Settings: &configv1.TenantSettings{UnknownTool: governancev1.Decision_DECISION_REQUIRE_APPROVAL},
	})
	if err != nil || b.policyBundle(b.tenantA).GetSettings().GetUnknownTool() != governancev1.Decision_DECISION_REQUIRE_APPROVAL {
		t.Errorf("settings: %v, %v", b.policyBundle(b.tenantA).GetSettings(), err)
	}
}
