package policy

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// What one policy may weigh. An event about a change carries it twice, and
// must fit a message of the bus.
const (
	maxBytes  = 300 << 10
	maxNested = 8
)

// Check says everything that is wrong with the shape of a policy. Whether it
// compiles is for the engine.
func Check(p *policyv1.Policy) error {
	var wrong []fault.Violation
	bad := func(field, format string, a ...any) {
		wrong = append(wrong, fault.Violation{Field: "policy." + field, Description: fmt.Sprintf(format, a...)})
	}
	if p.GetName() == "" {
		bad("name", "is required")
	}
	if n := utf8.RuneCountInString(p.GetName()); n > 256 {
		bad("name", "is %d characters long, more than 256", n)
	}
	switch {
	case p.GetRego() != "" && len(p.GetRules()) > 0:
		bad("rego", "a policy has rules or rego, not both: clear one of them")
	case p.GetRego() == "" && len(p.GetRules()) == 0 && InForce(p):
		bad("rules", "a policy in force needs rules or rego")
	}
	if p.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED {
		bad("status", "cannot be cleared")
	}
	checkTimes(p, bad)
	checkRules(p.GetRules(), bad)
	checkNames(p.GetTests(), bad)
	if size := proto.Size(Content(p)); size > maxBytes {
		bad("", "the policy has %d bytes, more than %d", size, maxBytes)
		wrong[len(wrong)-1].Field = "policy"
	}
	if len(wrong) > 0 {
		return fault.Fields(wrong...).WithReason("POLICY_INVALID")
	}
	return nil
}

type report func(field, format string, a ...any)

func checkTimes(p *policyv1.Policy, bad report) {
	ok := true
	for field, at := range map[string]*timestamppb.Timestamp{"effective_at": p.GetEffectiveAt(), "expires_at": p.GetExpiresAt()} {
		if at != nil && !at.IsValid() {
			bad(field, "is not a time")
			ok = false
		}
	}
	if ok && p.GetEffectiveAt() != nil && p.GetExpiresAt() != nil && !p.GetExpiresAt().AsTime().After(p.GetEffectiveAt().AsTime()) {
		bad("expires_at", "must be after effective_at")
	}
}

func checkRules(rules []*policyv1.PolicyRule, bad report) {
	seen := make(map[string]int, len(rules))
	for i, r := range rules {
		if first, twice := seen[r.GetRuleId()]; twice {
			bad(fmt.Sprintf("rules[%d].rule_id", i), "%q is the id of rules[%d] already", r.GetRuleId(), first)
		} else {
			seen[r.GetRuleId()] = i
		}
		for j, c := range r.GetConditions() {
			if depth(c) > maxNested {
				bad(fmt.Sprintf("rules[%d].conditions[%d]", i, j), "is nested more than %d levels deep", maxNested)
			}
		}
	}
}

func depth(c *policyv1.PolicyCondition) int {
	deepest := 0
	for _, n := range c.GetNestedConditions() {
		deepest = max(deepest, depth(n))
	}
	return deepest + 1
}

func checkNames(tests []*policyv1.PolicyTest, bad report) {
	seen := make(map[string]int, len(tests))
	for i, t := range tests {
		switch first, twice := seen[t.GetName()]; {
		case t.GetName() == "":
			bad(fmt.Sprintf("tests[%d].name", i), "is required")
		case twice:
			bad(fmt.Sprintf("tests[%d].name", i), "%q is the name of tests[%d] already", t.GetName(), first)
		default:
			seen[t.GetName()] = i
		}
	}
}

// checkTests is the part of Check that tests need to be told apart.
func checkTests(p *policyv1.Policy) error {
	var wrong []fault.Violation
	checkNames(p.GetTests(), func(field, format string, a ...any) {
		wrong = append(wrong, fault.Violation{Field: "policy." + field, Description: fmt.Sprintf(format, a...)})
	})
	if len(wrong) > 0 {
		return fault.Fields(wrong...).WithReason("POLICY_INVALID")
	}
	return nil
}
