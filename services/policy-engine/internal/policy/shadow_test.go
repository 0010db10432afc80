package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

func compiled(t *testing.T, b *configv1.PolicyBundle) *policy.Set {
	t.Helper()
	b.TenantId, b.Version = "t", 1
	set, err := policy.NewCompiler(nil).Compile("t", b)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func shadowOf(p *policyv1.Policy, share int32) []*configv1.ShadowPolicy {
	return []*configv1.ShadowPolicy{{Policy: p, SharePerMyriad: share}}
}

// Whatever is in shadow, the answer is the one without it; and what the shadow
// says is the answer that there would be with it in force.
func TestAShadowSaysWhatWouldBeAndChangesNothing(t *testing.T) {
	t.Parallel()
	c := policy.NewCompiler(nil)
	differ := 0
	rapid.Check(t, func(t *rapid.T) {
		b := bundles().Draw(t, "bundle")
		for _, p := range b.GetPolicies() {
			if p.GetFailureMode() == policyv1.FailureMode_FAILURE_MODE_ALLOW {
				p.FailureMode = policyv1.FailureMode_FAILURE_MODE_DENY
			}
		}
		b.Settings.FailOpen = false
		draft := bundles().Draw(t, "draft").GetPolicies()[0]
		draft.FailureMode = policyv1.FailureMode_FAILURE_MODE_DENY
		if rapid.Bool().Draw(t, "beside") {
			draft.PolicyId = "another"
		}
		plain, err := c.Compile("t", b)
		if err != nil {
			t.Fatal(err)
		}
		shadowed := proto.CloneOf(b)
		shadowed.Shadows = shadowOf(draft, 10_000)
		set, err := c.Compile("t", shadowed)
		if err != nil {
			t.Fatal(err)
		}
		with, problems, err := plain.With(c, &policyenginev1.SimulateChanges{Policies: []*policyv1.Policy{draft}})
		if err != nil || problems != nil {
			t.Fatal(err, problems)
		}
		for range 4 {
			f := facts().Draw(t, "facts")
			var said []*policyenginev1.ShadowOutcome
			var got, want, would *policyenginev1.EvaluateResponse
			for range 20 { // on a crowded machine an evaluation may run out of time
				want, _ = plain.Evaluate(t.Context(), policy.Request{Facts: f})
				got, _ = set.Evaluate(t.Context(), policy.Request{Facts: f})
				said = set.Shadow(t.Context(), "some decision", f, got)
				would, _ = with.Evaluate(t.Context(), policy.Request{Facts: f})
				if len(said) != 1 || !late(said[0].GetError()) && !slices.ContainsFunc(slices.Concat(want.GetResults(), got.GetResults(), would.GetResults()),
					func(r *policyenginev1.PolicyResult) bool { return late(r.GetError()) }) {
					break
				}
			}
			if diff := cmp.Diff(summary(want), summary(got)); diff != "" {
				t.Fatalf("the shadow changed the answer:\n%s", diff)
			}
			if len(said) != 1 || said[0].GetDecision() != would.GetDecision() || said[0].GetLive() != want.GetDecision() {
				t.Fatalf("shadow: %v, with it in force: %v", said, would.GetDecision())
			}
			if said[0].GetDecision() != said[0].GetLive() {
				differ++
			}
		}
	})
	if differ == 0 {
		t.Error("no shadow ever differed")
	}
}

// late says of an error that there was no time.
func late(err string) bool {
	return strings.Contains(err, "took too long") || strings.Contains(err, "not judged") || strings.Contains(err, "quarantined")
}

// A share is what it says, and the same decision is chosen again.
func TestAShadowsShareIsChosenByTheDecision(t *testing.T) {
	t.Parallel()
	p := policyOf(t, `{policy_id: p, rules: [{rule_id: r, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: DENY}]}]}`)
	one, two := compiled(t, &configv1.PolicyBundle{Shadows: shadowOf(p, 2_500)}), compiled(t, &configv1.PolicyBundle{Shadows: shadowOf(p, 2_500)})
	const n = 20_000
	chosen := 0
	for i := range n {
		id := fmt.Sprint("decision-", i)
		if one.Sampled(id) != two.Sampled(id) {
			t.Fatalf("%s is chosen by one instance only", id)
		}
		if one.Sampled(id) {
			chosen++
		}
	}
	if share := float64(chosen) / n; share < 0.235 || share > 0.265 {
		t.Errorf("share %.3f, want a quarter", share)
	}
	if one.Sampled("") || compiled(t, &configv1.PolicyBundle{}).Sampled("x") {
		t.Error("sampled without an id, or without a shadow")
	}
}

func TestABrokenShadowSpoilsNothing(t *testing.T) {
	t.Parallel()
	set := compiled(t, &configv1.PolicyBundle{Shadows: shadowOf(&policyv1.Policy{PolicyId: "p", Rego: "nonsense {{{"}, 10_000)})
	got, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()})
	if err != nil || got.GetDecision() != governancev1.Decision_DECISION_ALLOW {
		t.Fatalf("%v %v", got, err)
	}
	said := set.Shadow(t.Context(), "id", workload.Call(), got)
	if len(said) != 1 || said[0].GetError() == "" || said[0].GetDecision() != governancev1.Decision_DECISION_DENY {
		t.Errorf("shadow: %v", said)
	}
}

func TestASimulationComparesWithAndWithoutTheChanges(t *testing.T) {
	t.Parallel()
	c := policy.NewCompiler(nil)
	set := compiled(t, &configv1.PolicyBundle{Policies: []*policyv1.Policy{
		policyOf(t, `{policy_id: a, rules: [{rule_id: r, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: DENY}]}]}`),
		policyOf(t, `{policy_id: b, rules: [{rule_id: r, conditions: [{field: tool.name, string_value: yy}], actions: [{action_type: WARN}]}]}`),
	}})
	ask := func(tool string) *policyenginev1.Facts { return &policyenginev1.Facts{ToolNames: []string{tool}} }
	const allow, deny = governancev1.Decision_DECISION_ALLOW, governancev1.Decision_DECISION_DENY
	draft := policyOf(t, `{policy_id: a, status: DRAFT, rules: [{rule_id: r, conditions: [{field: tool.name, string_value: z}], actions: [{action_type: DENY, message: no z}]}]}`)
	fresh := proto.CloneOf(draft)
	fresh.PolicyId = ""
	for name, tt := range map[string]struct {
		changes *policyenginev1.SimulateChanges
		want    map[string][2]governancev1.Decision
	}{
		"in the place of one": {&policyenginev1.SimulateChanges{Policies: []*policyv1.Policy{draft}}, map[string][2]governancev1.Decision{"x": {deny, allow}, "z": {allow, deny}}},
		"beside them":         {&policyenginev1.SimulateChanges{Policies: []*policyv1.Policy{fresh}}, map[string][2]governancev1.Decision{"x": {deny, deny}, "z": {allow, deny}}},
		"without one":         {&policyenginev1.SimulateChanges{Without: []string{"a", "b"}}, map[string][2]governancev1.Decision{"x": {deny, allow}, "z": {allow, allow}}},
	} {
		with, problems, err := set.With(c, tt.changes)
		if err != nil || problems != nil {
			t.Fatalf("%s: %v %v", name, err, problems)
		}
		for tool, want := range tt.want {
			got, err := policy.Compare(t.Context(), set, with, ask(tool))
			if err != nil {
				t.Fatal(err)
			}
			if [2]governancev1.Decision{got.GetBefore(), got.GetAfter()} != want || (len(got.GetReasons()) > 0) != (want[1] == deny && want[0] == allow) {
				t.Errorf("%s, %s: %v, want %v", name, tool, got, want)
			}
		}
	}
	needs := policyOf(t, `{rules: [{rule_id: r, conditions: [{field: attribute.region, string_value: eu}], actions: [{action_type: DENY}]}]}`)
	with, _, err := set.With(c, &policyenginev1.SimulateChanges{Policies: []*policyv1.Policy{needs}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := policy.Compare(t.Context(), set, with, ask("z")); err != nil || !got.GetNewFailure() || got.GetAfter() != deny {
		t.Errorf("a fact that is missing: %v %v", got, err)
	}
	if _, problems, _ := set.With(c, &policyenginev1.SimulateChanges{Policies: []*policyv1.Policy{{Rego: "nonsense {{{"}}}); len(problems["draft-1"]) == 0 {
		t.Errorf("problems: %v", problems)
	}
	before, _ := set.Evaluate(t.Context(), policy.Request{Facts: ask("x")})
	if diff := cmp.Diff(deny, before.GetDecision(), protocmp.Transform()); diff != "" {
		t.Errorf("the policies in force have changed: %s", diff)
	}
}
