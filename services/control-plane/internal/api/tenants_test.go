package api_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

func TestATenantIsBornWithItsBundles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	settings := &configv1.TenantSettings{TimeZone: "Europe/Berlin", DefaultDecision: governancev1.Decision_DECISION_DENY}
	resp, err := b.admin.CreateTenant(b.asAdmin(), &controlplanev1.CreateTenantRequest{Name: "acme", Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	made := resp.GetTenant()
	if made.GetStatus() != controlplanev1.TenantStatus_TENANT_STATUS_ACTIVE || !cmp.Equal(made.GetSettings(), settings, protocmp.Transform()) {
		t.Errorf("made: %v", made)
	}
	id := uuid.MustParse(made.GetTenantId())
	p, m := b.policyBundle(id), b.budgetBundle(id)
	if p.GetVersion() != 1 || m.GetVersion() != 1 || !cmp.Equal(p.GetSettings(), settings, protocmp.Transform()) || !cmp.Equal(m.GetSettings(), settings, protocmp.Transform()) {
		t.Errorf("bundles: %v %v", p, m)
	}
	if n := len(b.events(id)); n != 3 {
		t.Errorf("%d events, want the fact and two announcements", n)
	}

	var all []string
	token := ""
	for {
		page, err := b.admin.ListTenants(b.asAdmin(), &controlplanev1.ListTenantsRequest{PageSize: 1, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range page.GetTenants() {
			all = append(all, one.GetTenantId())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{b.tenantA.String(), made.GetTenantId()}, all); diff != "" {
		t.Errorf("tenants: %s", diff)
	}
}

func TestATenantIsCreatedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	req := &controlplanev1.CreateTenantRequest{Name: "acme", IdempotencyKey: "make acme"}
	_, err := b.admin.CreateTenant(b.asAdmin(), req)
	wantKind(t, "a key with a blank", err, fault.Invalid, "")
	req.IdempotencyKey = "make-acme"
	var g errgroup.Group
	ids := make([]string, 8)
	for i := range ids {
		g.Go(func() error {
			resp, err := b.admin.CreateTenant(b.asAdmin(), req)
			ids[i] = resp.GetTenant().GetTenantId()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("tenants %s and %s", id, ids[0])
		}
	}
	_, err = b.admin.CreateTenant(b.asAdmin(), &controlplanev1.CreateTenantRequest{Name: "other", IdempotencyKey: "make-acme"})
	wantKind(t, "another name", err, fault.Conflict, "IDEMPOTENCY_KEY_REUSED")
	again, err := b.admin.CreateTenant(withKey(b.asAdmin(), "make-acme"), &controlplanev1.CreateTenantRequest{Name: "acme"})
	if err != nil || again.GetTenant().GetTenantId() != ids[0] {
		t.Errorf("with the key in the metadata: %v %v", again, err)
	}
	// The tenant's own keys are not taken by ours.
	p := b.createPolicy(withKey(as(t.Context(), uuid.MustParse(ids[0]), "*"), "make-acme"), draft("first"))
	if p.GetName() != "first" {
		t.Errorf("first policy: %v", p)
	}
}

func TestSettingsReachBothBundles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.createPolicy(b.all(), active("kept"))
	settings := &configv1.TenantSettings{FailOpen: true, TimeZone: "Asia/Tokyo"}
	req := &controlplanev1.UpdateTenantSettingsRequest{TenantId: b.tenantA.String(), Settings: settings}
	resp, err := b.admin.UpdateTenantSettings(as(t.Context(), b.tenantA, "tenant:admin"), req)
	if err != nil {
		t.Fatal(err)
	}
	p, m := b.policyBundle(b.tenantA), b.budgetBundle(b.tenantA)
	if resp.GetPolicySetVersion() != 2 || p.GetVersion() != 2 || len(p.GetPolicies()) != 1 ||
		!cmp.Equal(p.GetSettings(), settings, protocmp.Transform()) || !cmp.Equal(m.GetSettings(), settings, protocmp.Transform()) ||
		!cmp.Equal(resp.GetTenant().GetSettings(), settings, protocmp.Transform()) {
		t.Errorf("answer %v, bundles %v %v", resp, p, m)
	}
	if _, err := b.admin.UpdateTenantSettings(b.asAdmin(), req); err != nil {
		t.Errorf("by the platform's administrator: %v", err)
	}
	req.TenantId = uuid.NewString()
	_, err = b.admin.UpdateTenantSettings(b.asAdmin(), req)
	wantKind(t, "of no tenant", err, fault.NotFound, "TENANT_NOT_FOUND")
	// Later changes keep them.
	b.createPolicy(b.all(), active("later"))
	if got := b.policyBundle(b.tenantA).GetSettings(); !cmp.Equal(got, settings, protocmp.Transform()) {
		t.Errorf("settings after another change: %v", got)
	}
}
