package policyfile

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Step is one change that makes a server have what a folder has.
type Step struct {
	Action Action
	Path   string           // "" for Delete
	Want   *policyv1.Policy // nil for Delete; has the id and etag of Have
	Have   *policyv1.Policy // nil for Create
}

// Action is what a step does.
type Action string

// In this order a push takes its steps, so that what protects is there before
// what it replaces goes.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete" // on the server only
)

// Name is the policy's.
func (s Step) Name() string {
	if s.Want != nil {
		return strings.TrimSpace(s.Want.GetName())
	}
	return s.Have.GetName()
}

// Diff is a unified diff from what the server has to what it is to have.
func (s Step) Diff() (string, error) {
	var texts [2]string
	for i, p := range []*policyv1.Policy{s.Have, s.Want} {
		if p == nil {
			continue
		}
		p = normal(p)
		p.PolicyId = ""
		text, err := YAML(p)
		if err != nil {
			return "", err
		}
		texts[i] = text
	}
	return unified(texts[0], texts[1]), nil
}

// Plan is what it takes to make a server with the policies live have what files
// say. Policies that only the server has are Delete steps, which the caller may
// leave out. Nothing to do for a policy is no step.
func Plan(files []File, live []*policyv1.Policy) ([]Step, error) {
	pairs, created, only, err := match(files, live)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, f := range created {
		if word := f.Policy.GetStatus(); word == policyv1.PolicyStatus_POLICY_STATUS_INACTIVE {
			f.Policy.Status = policyv1.PolicyStatus_POLICY_STATUS_DRAFT // new ones are DRAFT or ACTIVE
		}
		steps = append(steps, Step{Action: Create, Path: f.Path, Want: f.Policy})
	}
	for _, p := range pairs {
		if same(p.file.Policy, p.live) {
			continue
		}
		want := proto.CloneOf(p.file.Policy)
		want.Status = reachable(want.GetStatus(), p.live.GetStatus())
		want.PolicyId, want.Etag = p.live.GetPolicyId(), p.live.GetEtag()
		steps = append(steps, Step{Action: Update, Path: p.file.Path, Want: want, Have: p.live})
	}
	for _, p := range only {
		steps = append(steps, Step{Action: Delete, Have: p})
	}
	return steps, nil
}

type pair struct {
	file File
	live *policyv1.Policy
}

// match finds each file's policy on the server: by its id, else by its name.
// Archived policies are the past, and match nothing.
func match(files []File, live []*policyv1.Policy) (pairs []pair, unmatched []File, only []*policyv1.Policy, err error) {
	live = slices.DeleteFunc(slices.Clone(live), func(p *policyv1.Policy) bool {
		return p.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED
	})
	claimed := map[string]bool{}
	found := make([]*policyv1.Policy, len(files))
	for i, f := range files {
		if f.Policy.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED {
			return nil, nil, nil, fmt.Errorf("%s: has the status ARCHIVED: delete the file and push with --prune", f.Path)
		}
		for _, p := range live {
			if f.Policy.GetPolicyId() != "" && p.GetPolicyId() == f.Policy.GetPolicyId() {
				found[i] = p
				claimed[p.GetPolicyId()] = true
			}
		}
	}
	for i, f := range files {
		if found[i] != nil {
			continue
		}
		for _, p := range live {
			if claimed[p.GetPolicyId()] || p.GetName() != strings.TrimSpace(f.Policy.GetName()) {
				continue
			}
			if found[i] != nil {
				return nil, nil, nil, fmt.Errorf("%s: the server has several policies called %q: say which by policy_id: %s or %s",
					f.Path, p.GetName(), found[i].GetPolicyId(), p.GetPolicyId())
			}
			found[i] = p
		}
		if found[i] != nil {
			claimed[found[i].GetPolicyId()] = true
		}
	}
	for i, f := range files {
		if found[i] == nil {
			unmatched = append(unmatched, f)
		} else {
			pairs = append(pairs, pair{f, found[i]})
		}
	}
	for _, p := range live {
		if !claimed[p.GetPolicyId()] {
			only = append(only, p)
		}
	}
	return pairs, unmatched, only, nil
}

// same reports whether a push of file would change nothing in live.
func same(file, live *policyv1.Policy) bool {
	a, b := normal(file), normal(live)
	a.Status = reachable(a.GetStatus(), b.GetStatus())
	a.PolicyId, b.PolicyId = "", ""
	return proto.Equal(a, b)
}

// reachable is the status that a policy has after it was asked to get another.
// Out of force is DRAFT before it ever was in force, and INACTIVE after.
func reachable(want, have policyv1.PolicyStatus) policyv1.PolicyStatus {
	const (
		draft    = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
		inactive = policyv1.PolicyStatus_POLICY_STATUS_INACTIVE
	)
	switch {
	case want == policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED:
		return have
	case want == inactive && have == draft:
		return draft
	case want == draft && have != draft:
		return inactive
	}
	return want
}

// portable is the part of a policy that a file holds.
func portable(p *policyv1.Policy) *policyv1.Policy {
	p = proto.CloneOf(p)
	p.TenantId, p.CreatedBy, p.Etag, p.Version = "", "", "", 0
	p.CreatedAt, p.UpdatedAt = nil, nil
	return p
}

// normal is the portable part with what the server writes down for a caller
// who left it out.
func normal(p *policyv1.Policy) *policyv1.Policy {
	p = portable(p)
	p.Name, p.Rego = strings.TrimSpace(p.GetName()), unix(p.GetRego())
	if p.GetEnforcement() == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_UNSPECIFIED {
		p.Enforcement = policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK
	}
	if proto.Equal(p.GetScope(), &policyv1.PolicyScope{}) {
		p.Scope = nil
	}
	taken := map[string]bool{}
	for _, r := range p.GetRules() {
		taken[r.GetRuleId()] = true
	}
	n := 0
	for _, r := range p.GetRules() {
		if r.GetRuleId() != "" {
			continue
		}
		for n++; taken[fmt.Sprintf("rule-%d", n)]; n++ {
		}
		r.RuleId = fmt.Sprintf("rule-%d", n)
	}
	return p
}
