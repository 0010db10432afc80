package policy

import (
	"slices"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// everywhere reports whether s restricts nothing.
func everywhere(s *policyv1.PolicyScope) bool {
	return s == nil || s.GetApplyToAll() ||
		len(s.GetWorkflowIds())+len(s.GetPhases())+len(s.GetRoles())+len(s.GetModelIds())+
			len(s.GetToolNames())+len(s.GetAgentIds())+len(s.GetTeams()) == 0
}

// inScope reports whether every list of s that is not empty has one of the
// facts. An unknown fact is in no list.
func (v *view) inScope(s *policyv1.PolicyScope) bool {
	if everywhere(s) {
		return true
	}
	return among(s.GetWorkflowIds(), v.facts.GetWorkflowId()) &&
		among(s.GetPhases(), v.phase) &&
		among(s.GetModelIds(), v.model) &&
		among(s.GetAgentIds(), v.facts.GetAgentId()) &&
		among(s.GetTeams(), v.facts.GetAgentTeam()) &&
		anyAmong(s.GetRoles(), v.facts.GetUserRoles()) &&
		anyAmong(s.GetToolNames(), v.tools)
}

func among[T comparable](list []T, fact T) bool {
	var none T
	return len(list) == 0 || fact != none && slices.Contains(list, fact)
}

func anyAmong(list, facts []string) bool {
	return len(list) == 0 || slices.ContainsFunc(facts, func(f string) bool { return slices.Contains(list, f) })
}
