package policy

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// mutable are the fields that a caller decides.
var mutable = map[string]bool{
	"name": true, "description": true, "tags": true, "rules": true, "rego": true, "scope": true, "status": true,
	"enforcement": true, "failure_mode": true, "priority": true, "effective_at": true, "expires_at": true, "tests": true,
}

// Content is the part of a policy that a version keeps: without what the server
// sets, and without the status, which moves on its own.
func Content(p *policyv1.Policy) *policyv1.Policy {
	c := proto.CloneOf(p)
	c.PolicyId, c.TenantId, c.CreatedBy, c.Etag = "", "", "", ""
	c.CreatedAt, c.UpdatedAt = nil, nil
	c.Version = 0
	c.Status = policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED
	return c
}

// RuleTypes are the types of a policy's rules, each once, for lists.
func RuleTypes(p *policyv1.Policy) []int32 {
	types := []int32{}
	for _, r := range p.GetRules() {
		types = append(types, int32(r.GetRuleType()))
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// Normalize writes down what the caller left to us, so that a version says by
// itself what it means: the enforcement level, and an id for every rule.
func Normalize(p *policyv1.Policy) {
	p.Name = strings.TrimSpace(p.GetName())
	if p.GetEnforcement() == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_UNSPECIFIED {
		p.Enforcement = policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK
	}
	taken := make(map[string]bool, len(p.GetRules()))
	for _, r := range p.GetRules() {
		taken[r.GetRuleId()] = true
	}
	n := 0
	for _, r := range p.GetRules() {
		if r == nil || r.GetRuleId() != "" {
			continue
		}
		for n++; taken[fmt.Sprintf("rule-%d", n)]; n++ {
		}
		r.RuleId = fmt.Sprintf("rule-%d", n)
	}
}
