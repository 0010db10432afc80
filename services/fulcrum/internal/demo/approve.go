package demo

import (
	"context"
	"fmt"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// reviewOnRequest answers as dana when an agent program reports that it waits
// for an approval: dana has her own key and no other right.
func (w *world) reviewOnRequest(ctx context.Context, r *report) func(Step) {
	return func(s Step) {
		id := s.Facts["approval_id"]
		if id == "" {
			return
		}
		r.try("dana finds and grants it", func() (string, error) {
			open, err := w.reviewer.policies.ListApprovals(ctx, &policyv1.ListApprovalsRequest{Status: "PENDING"})
			if err != nil {
				return "", err
			}
			if len(open.GetApprovals()) != 1 || open.GetApprovals()[0].GetApprovalId() != id {
				return "", fmt.Errorf("want exactly approval %s pending, got %v", id, open.GetApprovals())
			}
			resp, err := w.reviewer.policies.UpdateApproval(ctx, &policyv1.UpdateApprovalRequest{
				ApprovalId: id, Status: "APPROVED", ReviewNote: "order checked"})
			return resp.GetApproval().GetStatus() + " by " + resp.GetApproval().GetReviewerId(), err
		})
	}
}
