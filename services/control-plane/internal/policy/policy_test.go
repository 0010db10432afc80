package policy

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Every pair of states, so that a new state without a rule is noticed.
func TestOnlyTheseMovesAreLegal(t *testing.T) {
	t.Parallel()
	legal := map[string]bool{
		"DRAFT ACTIVE": true, "DRAFT ARCHIVED": true,
		"ACTIVE INACTIVE": true, "INACTIVE ACTIVE": true, "INACTIVE ARCHIVED": true,
	}
	for from := range policyv1.PolicyStatus_name {
		for to := range policyv1.PolicyStatus_name {
			f, g := policyv1.PolicyStatus(from), policyv1.PolicyStatus(to)
			err := move(f, g)
			if want := from == to || legal[Word(f)+" "+Word(g)]; (err == nil) != want {
				t.Errorf("%s to %s: %v, want legal %v", f, g, err, want)
			}
			if err != nil && !errors.Is(err, fault.Precondition) {
				t.Errorf("%s to %s: %v", f, g, err)
			}
		}
		if s := policyv1.PolicyStatus(from); Status(Word(s)) != s {
			t.Errorf("%v reads back as %v", s, Status(Word(s)))
		}
	}
}

func TestRuleIdsAreFilledInWithoutCollision(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &policyv1.Policy{Name: "p"}
		ids := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "rule-1", "rule-2", "rule-3", "mine"}), 0, 8).Draw(t, "ids")
		given := map[string]bool{}
		for _, id := range ids {
			if id != "" && given[id] {
				id = ""
			}
			given[id] = true
			p.Rules = append(p.Rules, &policyv1.PolicyRule{RuleId: id})
		}
		Normalize(p)
		if err := Check(p); err != nil && len(p.GetRules()) > 0 && p.GetStatus() != policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for i, r := range p.GetRules() {
			if r.GetRuleId() == "" || seen[r.GetRuleId()] {
				t.Fatalf("rule %d of %v is %q", i, ids, r.GetRuleId())
			}
			seen[r.GetRuleId()] = true
		}
		once := proto.CloneOf(p)
		if Normalize(p); !proto.Equal(p, once) {
			t.Fatal("normalizing twice changes something")
		}
	})
}

// A version must not hold what changes without it.
func TestContentLeavesOutWhatMoves(t *testing.T) {
	t.Parallel()
	p := &policyv1.Policy{Name: "p", PolicyId: "id", TenantId: "t", Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, Etag: "r1", Version: 4, CreatedBy: "x"}
	if c := Content(p); !proto.Equal(c, &policyv1.Policy{Name: "p"}) {
		t.Errorf("content: %v", c)
	}
	if p.GetEtag() != "r1" {
		t.Error("Content changed its argument")
	}
}
