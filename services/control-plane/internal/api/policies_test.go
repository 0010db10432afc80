package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

const (
	isDraft    = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
	isActive   = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
	isInactive = policyv1.PolicyStatus_POLICY_STATUS_INACTIVE
	isArchived = policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED
)

func TestAPolicyLivesFromDraftToArchive(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.all()

	p := b.createPolicy(ctx, draft("no shell"))
	if p.GetStatus() != isDraft || p.GetVersion() != 1 || p.GetEtag() == "" || p.GetCreatedBy() != "user:ada" || p.GetTenantId() != b.tenantA.String() ||
		p.GetEnforcement() != policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK || p.GetRules()[0].GetRuleId() != "rule-1" {
		t.Errorf("created: %v", p)
	}
	if n := len(b.policyBundle(b.tenantA).GetPolicies()); n != 0 {
		t.Errorf("a draft is in force: %d policies", n)
	}

	update := func(want error, version int64, patch *policyv1.Policy, mask ...string) {
		t.Helper()
		patch.PolicyId = p.GetPolicyId()
		resp, err := b.policy.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: patch, UpdateMask: mask})
		if want != nil {
			wantKind(t, fmt.Sprint(patch), err, fault.Precondition, "")
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p = resp.GetPolicy()
		if p.GetVersion() != version {
			t.Errorf("after %v: version %d, want %d", mask, p.GetVersion(), version)
		}
	}
	update(nil, 2, &policyv1.Policy{Description: "for everybody"})
	update(nil, 2, &policyv1.Policy{Description: "for everybody"}) // nothing new: no version
	update(fault.Precondition, 0, &policyv1.Policy{Status: isInactive}, "status")
	update(nil, 2, &policyv1.Policy{Status: isActive}, "status")
	if got := b.policyBundle(b.tenantA).GetPolicies(); len(got) != 1 || !cmp.Equal(got[0], p, protocmp.Transform()) {
		t.Errorf("bundle: %v, want %v", got, p)
	}
	update(nil, 3, &policyv1.Policy{Priority: 7}, "priority")
	update(fault.Precondition, 0, &policyv1.Policy{Status: isArchived}, "status")
	update(nil, 3, &policyv1.Policy{Status: isInactive}, "status")
	update(nil, 3, &policyv1.Policy{Status: isActive}, "status")
	update(nil, 3, &policyv1.Policy{Status: isInactive}, "status")
	update(nil, 3, &policyv1.Policy{Status: isArchived}, "status")
	update(fault.Precondition, 0, &policyv1.Policy{Description: "again"}, "description")

	got, err := b.policy.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: p.GetPolicyId()})
	if err != nil || !cmp.Equal(got.GetPolicy(), p, protocmp.Transform()) {
		t.Errorf("get: %v %v, want %v", got, err, p)
	}
	deleted, err := b.policy.DeletePolicy(ctx, &policyv1.DeletePolicyRequest{PolicyId: p.GetPolicyId()})
	if err != nil || !deleted.GetSuccess() {
		t.Errorf("delete: %v %v", deleted, err)
	}
	_, err = b.policy.DeletePolicy(ctx, &policyv1.DeletePolicyRequest{PolicyId: p.GetPolicyId()})
	wantKind(t, "second delete", err, fault.NotFound, "")
	_, err = b.policy.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: p.GetPolicyId()})
	wantKind(t, "get after delete", err, fault.NotFound, "")
	var versions int
	b.query(`select count(*) from fulcrum.policy_versions where policy_id = $1`, []any{p.GetPolicyId()}, &versions)
	if versions != 3 {
		t.Errorf("%d versions left for the record, want 3", versions)
	}
}

func TestAVersionIsNeverChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var may bool
	b.query(`select has_any_column_privilege('fulcrum_app', 'fulcrum.policy_versions', 'update')
		or has_table_privilege('fulcrum_app', 'fulcrum.policy_versions', 'delete, truncate')
		or has_column_privilege('fulcrum_app', 'fulcrum.api_keys', 'hash', 'update')
		or has_column_privilege('fulcrum_app', 'fulcrum.api_keys', 'scopes', 'update')`, nil, &may)
	if may {
		t.Error("the app may change versions of policies, or keys")
	}
}

func TestAPolicyKeepsAllItSays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	now := time.Now().UTC().Truncate(time.Second)
	p := active("full")
	p.Description, p.Tags, p.Priority = "all of it", map[string]string{"owner": "security", "a": "b"}, -5
	p.Scope = &policyv1.PolicyScope{Roles: []string{"intern"}, Phases: []policyv1.ExecutionPhase{policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL}, Teams: []string{"red"}}
	p.Enforcement = policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_TERMINATE
	p.FailureMode = policyv1.FailureMode_FAILURE_MODE_ALLOW
	p.EffectiveAt, p.ExpiresAt = timestamppb.New(now), timestamppb.New(now.Add(time.Hour))
	p.Rules[0].RuleId = "mine"
	stored := b.createPolicy(b.all(), p)
	ignored := protocmp.IgnoreFields(&policyv1.Policy{}, "policy_id", "tenant_id", "created_at", "updated_at", "created_by", "etag", "version")
	if diff := cmp.Diff(p, stored, protocmp.Transform(), ignored); diff != "" {
		t.Errorf("stored (-asked +stored):\n%s", diff)
	}
	if diff := cmp.Diff(stored, b.policyBundle(b.tenantA).GetPolicies()[0], protocmp.Transform()); diff != "" {
		t.Errorf("published (-stored +published):\n%s", diff)
	}
}

// What a caller cannot know or decide is ours, whatever it sends.
func TestTheServersFieldsAreTheServers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := draft("copy of another")
	p.PolicyId, p.TenantId, p.CreatedBy, p.Etag, p.Version = "0198c5a0-0000-7000-8000-000000000001", "other", "mallory", "r9", 9
	stored := b.createPolicy(b.all(), p)
	if stored.GetPolicyId() == p.GetPolicyId() || stored.GetTenantId() != b.tenantA.String() || stored.GetCreatedBy() != "user:ada" || stored.GetVersion() != 1 {
		t.Errorf("stored: %v", stored)
	}
	for _, field := range []string{"policy_id", "tenant_id", "created_by", "version", "etag", "updated_at"} {
		_, err := b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{
			Policy: &policyv1.Policy{PolicyId: stored.GetPolicyId()}, UpdateMask: []string{"name", field},
		})
		if got := fields(err); !slices.Contains(got, "update_mask[1]") {
			t.Errorf("mask with %s: %v", field, describe(err))
		}
	}
}

func TestOnlyApproversChangeWhatIsInForce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	writer, approver := as(t.Context(), b.tenantA, "policy:write"), as(t.Context(), b.tenantA, "policy:write", "policy:approve")

	_, err := b.policy.CreatePolicy(writer, &policyv1.CreatePolicyRequest{Policy: active("mine")})
	wantKind(t, "create in force", err, fault.Denied, "SCOPE_MISSING")
	p := b.createPolicy(writer, draft("mine"))
	update := func(patch *policyv1.Policy, mask string) error {
		patch.PolicyId = p.GetPolicyId()
		_, err := b.policy.UpdatePolicy(writer, &policyv1.UpdatePolicyRequest{Policy: patch, UpdateMask: []string{mask}})
		return err
	}
	if err := update(&policyv1.Policy{Description: "draft"}, "description"); err != nil {
		t.Errorf("change a draft: %v", err)
	}
	wantKind(t, "activate", update(&policyv1.Policy{Status: isActive}, "status"), fault.Denied, "SCOPE_MISSING")
	if _, err := b.policy.UpdatePolicy(approver, &policyv1.UpdatePolicyRequest{
		Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Status: isActive}, UpdateMask: []string{"status"},
	}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "change what is in force", update(&policyv1.Policy{Description: "weaker"}, "description"), fault.Denied, "SCOPE_MISSING")
	wantKind(t, "take out of force", update(&policyv1.Policy{Status: isInactive}, "status"), fault.Denied, "SCOPE_MISSING")
	_, err = b.policy.DeletePolicy(writer, &policyv1.DeletePolicyRequest{PolicyId: p.GetPolicyId()})
	wantKind(t, "delete what is in force", err, fault.Denied, "SCOPE_MISSING")
	if _, err := b.policy.DeletePolicy(approver, &policyv1.DeletePolicyRequest{PolicyId: p.GetPolicyId()}); err != nil {
		t.Error(err)
	}
	if n := len(b.policyBundle(b.tenantA).GetPolicies()); n != 0 {
		t.Errorf("%d policies in force after the only one was deleted", n)
	}
}

func TestWhatDoesNotCompileIsNotStored(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, tt := range []struct {
		name string
		err  error
		kind fault.Kind
	}{
		{"problems", fault.Field("policy.rego", "line 3, column 7: undefined function"), fault.Invalid},
		{"nobody to ask", fault.New(fault.Down, "cannot validate the policy now").WithRetry(time.Second), fault.Down},
	} {
		b.engine.refuse(nil)
		p := b.createPolicy(b.all(), draft("compiles"))
		b.engine.refuse(tt.err)
		_, err := b.policy.CreatePolicy(b.all(), &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{Name: "x", Rego: "package x"}})
		wantKind(t, tt.name, err, tt.kind, "")
		_, err = b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Priority: 3}})
		wantKind(t, tt.name, err, tt.kind, "")
		_, err = b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Status: isActive}})
		wantKind(t, tt.name+", at activation", err, tt.kind, "")
		got, err := b.policy.GetPolicy(b.all(), &policyv1.GetPolicyRequest{PolicyId: p.GetPolicyId()})
		if err != nil || !cmp.Equal(got.GetPolicy(), p, protocmp.Transform()) {
			t.Errorf("%s: policy changed to %v (%v)", tt.name, got, err)
		}
	}
	var n int
	b.query(`select count(*) from fulcrum.policies`, nil, &n)
	if n != 2 {
		t.Errorf("%d policies stored, want the 2 that compile", n)
	}
}

func TestListingFiltersAndCounts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.createPolicy(b.all(), draft("one"))
	b.createPolicy(b.all(), active("two"))
	cost := active("three")
	cost.Priority = 10
	cost.Rules[0].RuleType = policyv1.RuleType_RULE_TYPE_COST_CONTROL
	b.createPolicy(b.all(), cost)
	for _, tt := range []struct {
		req  *policyv1.ListPoliciesRequest
		want []string
	}{
		{&policyv1.ListPoliciesRequest{}, []string{"three", "one", "two"}},
		{&policyv1.ListPoliciesRequest{TenantId: "whatever the caller says"}, []string{"three", "one", "two"}},
		{&policyv1.ListPoliciesRequest{Status: isActive}, []string{"three", "two"}},
		{&policyv1.ListPoliciesRequest{RuleType: policyv1.RuleType_RULE_TYPE_COST_CONTROL}, []string{"three"}},
		{&policyv1.ListPoliciesRequest{Status: isArchived}, nil},
	} {
		resp, err := b.policy.ListPolicies(b.all(), tt.req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range resp.GetPolicies() {
			got = append(got, p.GetName())
		}
		if !slices.Equal(got, tt.want) || int(resp.GetTotalCount()) != len(tt.want) || resp.GetNextPageToken() != "" {
			t.Errorf("list %v: %v of %d, want %v", tt.req, got, resp.GetTotalCount(), tt.want)
		}
	}
}

// A large policy is recorded by what it hashes to: the event must fit the bus.
func TestALargePolicyIsRecordedByItsHash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.createPolicy(b.all(), &policyv1.Policy{Name: "large", Rego: "package x\n# " + strings.Repeat("x", 250<<10)})
	if _, err := b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Description: "y"}}); err != nil {
		t.Fatal(err)
	}
	for _, e := range b.events(b.tenantA) {
		if e.GetType() != "policy_updated" {
			continue
		}
		for _, side := range []string{"before", "after"} {
			state := e.GetPayload().GetFields()[side].GetStructValue().GetFields()
			if len(state["sha256"].GetStringValue()) != 64 || state["bytes"].GetNumberValue() < 250<<10 {
				t.Errorf("%s: %v", side, state)
			}
		}
		return
	}
	t.Error("no event")
}
