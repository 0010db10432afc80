package app_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// askFor asks for an action that needs approval, and returns the approval's id.
func askFor(t *testing.T, g *gateway, key string, req *governancev1.AuthorizeRequest) string {
	t.Helper()
	resp, err := governanceOf(g).Authorize(as(t, key), req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetDecision() != asks || resp.GetApproval().GetApprovalId() == "" || resp.GetHold() != nil {
		t.Fatalf("asked for approval: %v", resp)
	}
	return resp.GetApproval().GetApprovalId()
}

// repeated is the same action again, with an approval and a key of its own.
func repeated(req *governancev1.AuthorizeRequest, approval string) *governancev1.AuthorizeRequest {
	again := proto.CloneOf(req)
	again.IdempotencyKey, again.ApprovalId = uuid.NewString(), approval
	return again
}

func review(t *testing.T, g *gateway, key, approval, status string) (*policyv1.Approval, error) {
	t.Helper()
	resp, err := policyv1.NewPolicyServiceClient(g.conn).UpdateApproval(as(t, key), &policyv1.UpdateApprovalRequest{
		ApprovalId: approval, Status: status, ReviewNote: "seen", ReviewerId: "somebody-else",
	})
	return resp.GetApproval(), err
}

// An approval lets exactly one action happen, once, and the reviewer is who
// reviewed.
func TestAnApprovalIsGoodForOneAction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks)
	agent := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "agent-1"})
	person := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"approval:write", "approval:read"}, UserID: "ada"})

	req := toolCall("")
	id := askFor(t, g, agent, req)
	stream, err := governanceOf(g).WaitForApproval(as(t, agent), &governancev1.WaitForApprovalRequest{ApprovalId: id})
	if err != nil {
		t.Fatal(err)
	}
	state, err := stream.Recv()
	if err != nil || state.GetState() != governancev1.ApprovalState_APPROVAL_STATE_PENDING {
		t.Fatal(state, err)
	}
	waiting, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id))
	if err != nil || waiting.GetDecision() != asks || waiting.GetApproval().GetApprovalId() != id {
		t.Errorf("while it is pending: %v, %v", waiting, err)
	}

	approval, err := review(t, g, person, id, "APPROVED")
	if err != nil {
		t.Fatal(err)
	}
	if approval.GetStatus() != "APPROVED" || approval.GetReviewerId() != "user:ada" || approval.GetReviewNote() != "seen" || approval.GetMetadata()["action_name"] != "send_email" {
		t.Errorf("approval: %v", approval)
	}
	if state, err = stream.Recv(); err != nil || state.GetState() != governancev1.ApprovalState_APPROVAL_STATE_APPROVED || state.GetReviewerId() != "user:ada" {
		t.Errorf("stream: %v, %v", state, err)
	}
	if _, err = stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream goes on: %v", err)
	}

	other := repeated(req, id)
	other.Action.Name = "delete_everything"
	if resp, err := governanceOf(g).Authorize(as(t, agent), other); err != nil || resp.GetDecision() != denied || resp.GetReasons()[0].GetRuleId() != "APPROVAL_MISMATCH" {
		t.Errorf("another action: %v, %v", resp, err)
	}
	use := repeated(req, id)
	for range 2 { // the second is the same call again
		resp, err := governanceOf(g).Authorize(as(t, agent), use)
		if err != nil || resp.GetDecision() != allowed || resp.GetHold() == nil {
			t.Fatalf("approved: %v, %v", resp, err)
		}
	}
	if resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id)); err != nil || resp.GetDecision() != denied || resp.GetReasons()[0].GetRuleId() != "APPROVAL_USED" {
		t.Errorf("used again: %v, %v", resp, err)
	}
	for _, kind := range []string{"approval_requested", "approval_approved", "approval_consumed"} {
		if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = '`+kind+`'`); n != 1 {
			t.Errorf("%d events %s", n, kind)
		}
	}
}

// Many callers with one approval: one of them acts.
func TestARaceForOneApprovalHasOneWinner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	for _, g := range gateways {
		ready(t, g)
	}
	w.engine.decides(asks)
	agent, person := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	req := toolCall("")
	id := askFor(t, gateways[0], agent, req)
	if _, err := review(t, gateways[1], person, id, "APPROVED"); err != nil {
		t.Fatal(err)
	}
	decisions := make(chan governancev1.Decision, 16)
	for i := range cap(decisions) {
		go func() {
			resp, err := governanceOf(gateways[i%2]).Authorize(as(t, agent), repeated(req, id))
			if err != nil {
				t.Error(err)
			}
			decisions <- resp.GetDecision()
		}()
	}
	won := 0
	for range cap(decisions) {
		if d := <-decisions; d == allowed {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of %d acted", won, cap(decisions))
	}
	if held := w.ledger.count("HELD"); held != 1 {
		t.Errorf("%d holds", held)
	}
}

// Nobody approves his own action, nor without the role; a quorum takes as many
// people as it says; one rejection is enough.
func TestWhoMayApprove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) {
		r.ApprovalQuorum, r.ApprovalRoles = 2, []string{"approver"}
	})
	role := func(user string, roles ...string) string {
		return w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, UserID: user, Roles: roles})
	}
	asker, again := role("eve", "approver"), role("eve", "approver")
	ada, bob, joe := role("ada", "approver"), role("bob", "approver"), role("joe", "viewer")
	req := toolCall("")
	id := askFor(t, g, asker, req)
	for who, want := range map[string]string{asker: "APPROVAL_OWN_ACTION", again: "APPROVAL_OWN_ACTION", joe: "APPROVAL_ROLE_MISSING"} {
		if _, err := review(t, g, who, id, "APPROVED"); !fault.Is(err, fault.Denied) || !fault.HasReason(err, want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
	for range 2 { // twice the same vote is one
		if a, err := review(t, g, ada, id, "APPROVED"); err != nil || a.GetStatus() != "PENDING" {
			t.Errorf("one of two: %v, %v", a, err)
		}
	}
	if _, err := review(t, g, ada, id, "REJECTED"); !fault.Is(err, fault.Conflict) {
		t.Errorf("a changed mind: %v", err)
	}
	if a, err := review(t, g, bob, id, "APPROVED"); err != nil || a.GetStatus() != "APPROVED" {
		t.Errorf("two of two: %v, %v", a, err)
	}
	if _, err := review(t, g, role("kim", "approver"), id, "REJECTED"); !fault.Is(err, fault.Precondition) {
		t.Errorf("too late: %v", err)
	}

	second := toolCall("")
	id = askFor(t, g, asker, second)
	if a, err := review(t, g, bob, id, "REJECTED"); err != nil || a.GetStatus() != "REJECTED" {
		t.Errorf("rejected: %v, %v", a, err)
	}
	if resp, err := governanceOf(g).Authorize(as(t, asker), repeated(second, id)); err != nil || resp.GetDecision() != denied || resp.GetReasons()[0].GetRuleId() != "APPROVAL_REJECTED" {
		t.Errorf("after a rejection: %v, %v", resp, err)
	}
	list, err := policyv1.NewPolicyServiceClient(g.conn).ListApprovals(as(t, joe), &policyv1.ListApprovalsRequest{Status: "REJECTED"})
	if err != nil || list.GetTotalCount() != 1 || list.GetApprovals()[0].GetApprovalId() != id {
		t.Errorf("list: %v, %v", list, err)
	}
}

// An approval that nobody gives in time is a denial; one that was asked for
// under other policies is asked for anew.
func TestApprovalsRunOutAndAge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	agent, person := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.ApprovalTtlSeconds = 1 })
	req := toolCall("")
	id := askFor(t, g, agent, req)
	eventually(t, "the approval expires", func() bool {
		return dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'approval_expired'`) == 1
	})
	if resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id)); err != nil || resp.GetDecision() != denied || resp.GetReasons()[0].GetRuleId() != "APPROVAL_EXPIRED" {
		t.Errorf("expired: %v, %v", resp, err)
	}
	if _, err := review(t, g, person, id, "APPROVED"); !fault.Is(err, fault.Precondition) {
		t.Errorf("approved after it expired: %v", err)
	}

	w.engine.decides(asks)
	id = askFor(t, g, agent, repeated(req, ""))
	if _, err := review(t, g, person, id, "APPROVED"); err != nil {
		t.Fatal(err)
	}
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.PolicySetVersion = 8 })
	resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id))
	if err != nil || resp.GetDecision() != asks || resp.GetApproval().GetApprovalId() == id {
		t.Errorf("other policies: %v, %v", resp, err)
	}
	w.engine.decides(denied)
	if resp, err := governanceOf(g).Authorize(as(t, agent), repeated(req, id)); err != nil || resp.GetDecision() != denied {
		t.Errorf("an approval outweighs a denial: %v, %v", resp, err)
	}
}

// An envelope can wait for approval as a whole.
func TestAnEnvelopeWaitsForApproval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	agent, person := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	envelopes := envelopev1.NewEnvelopeServiceClient(g.conn)
	for verdict, want := range map[string]envelopev1.EnvelopeStatus{
		"APPROVED": envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED, "REJECTED": envelopev1.EnvelopeStatus_ENVELOPE_STATUS_POLICY_VIOLATION,
	} {
		w.engine.decides(asks)
		opened, err := envelopes.CreateEnvelope(as(t, agent), &envelopev1.CreateEnvelopeRequest{})
		if err != nil || opened.GetEnvelope().GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_PENDING {
			t.Fatal(opened, err)
		}
		id := opened.GetEnvelope().GetEnvelopeId()
		watch, err := envelopes.WatchEnvelope(as(t, agent), &envelopev1.WatchEnvelopeRequest{EnvelopeId: id})
		if err != nil {
			t.Fatal(err)
		}
		if first, err := watch.Recv(); err != nil || first.GetEnvelope().GetStatus() != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_PENDING {
			t.Fatal(first, err)
		}
		w.engine.decides(allowed)
		if resp, err := governanceOf(g).Authorize(as(t, agent), toolCall(id)); err != nil || resp.GetDecision() != denied {
			t.Errorf("an action in a pending envelope: %v, %v", resp, err)
		}
		list, err := policyv1.NewPolicyServiceClient(g.conn).ListApprovals(as(t, person), &policyv1.ListApprovalsRequest{Status: "PENDING"})
		if err != nil || len(list.GetApprovals()) != 1 || list.GetApprovals()[0].GetEnvelopeId() != id {
			t.Fatal(list, err)
		}
		if _, err := review(t, g, person, list.GetApprovals()[0].GetApprovalId(), verdict); err != nil {
			t.Fatal(err)
		}
		if moved, err := watch.Recv(); err != nil || moved.GetEnvelope().GetStatus() != want {
			t.Errorf("after %s: %v, %v", verdict, moved, err)
		}
	}
}

// A decision cannot use the approval of a killed envelope.
func TestKillingAnEnvelopeCancelsItsApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	agent := w.key(w.tenant, "*")
	envelopes := envelopev1.NewEnvelopeServiceClient(g.conn)
	opened, err := envelopes.CreateEnvelope(as(t, agent), &envelopev1.CreateEnvelopeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	w.engine.decides(asks)
	id := askFor(t, g, agent, toolCall(opened.GetEnvelope().GetEnvelopeId()))
	if _, err := envelopes.TerminateEnvelope(as(t, agent), &envelopev1.TerminateEnvelopeRequest{EnvelopeId: opened.GetEnvelope().GetEnvelopeId()}); err != nil {
		t.Fatal(err)
	}
	stream, err := governanceOf(g).WaitForApproval(as(t, agent), &governancev1.WaitForApprovalRequest{ApprovalId: id})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if state, err := stream.Recv(); err != nil || state.GetState() != governancev1.ApprovalState_APPROVAL_STATE_CANCELLED || time.Since(begin) > time.Second {
		t.Errorf("%v, %v after %v", state, err, time.Since(begin))
	}
}
