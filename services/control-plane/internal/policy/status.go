package policy

import (
	"slices"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// moves are the ways of a policy's life. Archived is final.
var moves = map[policyv1.PolicyStatus][]policyv1.PolicyStatus{
	policyv1.PolicyStatus_POLICY_STATUS_DRAFT:    {policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED},
	policyv1.PolicyStatus_POLICY_STATUS_ACTIVE:   {policyv1.PolicyStatus_POLICY_STATUS_INACTIVE},
	policyv1.PolicyStatus_POLICY_STATUS_INACTIVE: {policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED},
}

func move(from, to policyv1.PolicyStatus) error {
	if from == to || slices.Contains(moves[from], to) {
		return nil
	}
	return fault.New(fault.Precondition, "a policy cannot go from %s to %s", Word(from), Word(to)).
		WithReason("POLICY_STATUS").
		WithMeta("from", Word(from)).WithMeta("to", Word(to)).
		WithHint("The ways are DRAFT to ACTIVE, ACTIVE to INACTIVE and back, and DRAFT or INACTIVE to ARCHIVED.")
}

const statusPrefix = "POLICY_STATUS_"

// Word is a status without its prefix, as it is stored: "ACTIVE".
func Word(s policyv1.PolicyStatus) string { return strings.TrimPrefix(s.String(), statusPrefix) }

// Status is the inverse of Word.
func Status(word string) policyv1.PolicyStatus {
	return policyv1.PolicyStatus(policyv1.PolicyStatus_value[statusPrefix+word])
}
