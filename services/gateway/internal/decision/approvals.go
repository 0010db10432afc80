package decision

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
)

// weighApproval looks at the approval that was shown, if any, and otherwise
// asks for one. Only an approval of exactly this action counts, and only
// against a demand for approval: it never outweighs a denial.
func (p *Pipeline) weighApproval(a *ask) error {
	now, err := a.subject(a.result.GetPolicySetVersion()).Digest()
	if err != nil {
		return err
	}
	if a.grant == nil {
		a.request = a.newRequest(now)
		return nil
	}
	then, err := a.subject(a.grant.PolicySetVersion).Digest()
	if err != nil {
		return err
	}
	if string(then[:]) != string(a.grant.Digest) {
		a.refuseApproval("APPROVAL_MISMATCH", "the approval is for another action: something in it, or who asks, differs")
		return nil
	}
	standing := a.grant.Standing()
	switch {
	case standing == approval.Consumed:
		a.refuseApproval("APPROVAL_USED", "the approval was used already, and is good for one action")
	case standing.Final():
		a.refuseApproval("APPROVAL_"+string(standing), "the approval is "+string(standing)+reviewNote(a.grant))
	case then != now:
		a.refused = "APPROVAL_OUTDATED"
		a.resp.Reasons = append(a.resp.GetReasons(), ownReason(a.refused, "approval",
			"the policies have changed since the approval was asked for, so a new one is needed", requireApproval))
		a.request = a.newRequest(now)
	case standing == approval.Pending:
		a.resp.Approval = &governancev1.ApprovalRef{
			ApprovalId: a.grant.ID.String(), ExpiresAt: timestamppb.New(a.grant.ExpiresAt), Quorum: a.grant.Quorum, Roles: a.grant.Roles,
		}
	default:
		a.use = &approval.Use{Approval: a.grant.ID, Decision: a.id, Digest: now}
		a.resp.Decision = allow
		a.resp.Reasons = append(a.resp.GetReasons(), ownReason("APPROVED", "approval", "approved by "+a.grant.Reviewer+reviewNote(a.grant), allow))
	}
	return nil
}

// refuseApproval denies because the approval that was shown does not count.
func (a *ask) refuseApproval(code, text string) {
	a.refused = code
	a.deny(code, "approval", text)
}

// refuseUnknown is the answer to an approval that the tenant does not have,
// another tenant's or nobody's. There is no decision then, but there is an
// event, of the caller's tenant: somebody tried. A dry run leaves none.
func (p *Pipeline) refuseUnknown(ctx context.Context, a *ask) error {
	refusal := approval.ErrNotFound(a.query.Approval)
	if a.req.GetDryRun() {
		return refusal
	}
	event := newEvent(a.who, "approval_refused", a.now)
	event.Action, event.Resource = "approval", resource(a.req.GetAction())
	event.Labels = map[string]string{"approval_id": a.query.Approval.String(), "reason": approval.Reason(refusal)}
	event.Payload = payload(map[string]any{
		"message": refusal.Error(), "action_kind": KindName(a.req.GetAction().GetKind()), "action_name": a.req.GetAction().GetName(),
	})
	if _, err := p.record(ctx, &Entry{Tenant: a.who.Tenant, Events: []*busv1.Event{event}}); err != nil {
		return unrecorded(err)
	}
	return refusal
}

func reviewNote(g *approval.Granted) string {
	if g.Note == "" {
		return ""
	}
	return ": " + g.Note
}

func (a *ask) subject(version int64) approval.Subject {
	s := approval.Subject{
		Tenant: a.who.Tenant, Action: a.req.GetAction(), PolicySetVersion: version,
		KeyID: a.who.KeyID, AgentID: a.actor.agentID, UserID: a.actor.userID,
	}
	if a.env != nil && !a.inline {
		s.Envelope = a.env.ID
	}
	return s
}

// newRequest asks for an approval, and says so in the answer.
func (a *ask) newRequest(digest [sha256.Size]byte) *approval.Request {
	action := a.req.GetAction()
	r := requestFrom(a.result)
	r.ID, r.Decision, r.Digest = newID(), a.id, digest
	if a.env != nil && !a.inline {
		r.Envelope = a.env.ID
	}
	r.ActionKind, r.ActionName = KindName(action.GetKind()), action.GetName()
	r.KeyID, r.AgentID, r.UserID = a.who.KeyID, a.actor.agentID, a.actor.userID
	r.Metadata = shown(action)
	ref := &governancev1.ApprovalRef{ExpiresAt: timestamppb.New(a.now.Add(r.TTL)), Quorum: r.Quorum, Roles: r.Roles}
	if !a.req.GetDryRun() {
		ref.ApprovalId = r.ID.String()
	}
	a.resp.Approval = ref
	return r
}

// requestFrom takes over what the rule that demands the approval says about it.
func requestFrom(result *policyenginev1.EvaluateResponse) *approval.Request {
	r := &approval.Request{
		PolicySetVersion: result.GetPolicySetVersion(),
		Quorum:           min(max(result.GetApprovalQuorum(), 1), approval.MaxQuorum),
		Roles:            result.GetApprovalRoles(),
		TTL:              time.Duration(result.GetApprovalTtlSeconds()) * time.Second,
	}
	if r.TTL <= 0 {
		r.TTL = approval.DefaultTTL
	}
	r.TTL = min(r.TTL, approval.MaxTTL)
	for _, reason := range result.GetReasons() {
		if reason.GetDecision() == requireApproval && !reason.GetShadow() {
			r.PolicyID, r.PolicyName = reason.GetPolicyId(), reason.GetPolicyName()
			break
		}
	}
	return r
}

// shown is what a reviewer sees of an action. Long values are cut: the digest,
// not this, is what the approval is bound to.
func shown(action *governancev1.Action) map[string]string {
	m := map[string]string{"action_kind": KindName(action.GetKind()), "action_name": action.GetName()}
	put := func(key, value string) {
		if value != "" {
			m[key] = clip(value, 4096)
		}
	}
	put("model", action.GetModel())
	put("resource", action.GetResource())
	put("input_text", action.GetInputText())
	if action.GetArguments() != nil {
		if raw, err := protojson.Marshal(action.GetArguments()); err == nil {
			put("arguments", compact(raw))
		}
	}
	return m
}

func compact(raw []byte) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	out, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(out)
}

// clip cuts text at a whole character.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xc0 == 0x80 {
		most--
	}
	return text[:most] + "… (" + strconv.Itoa(len(text)-most) + " more bytes)"
}

func idOf(r *approval.Request) uuid.UUID {
	if r == nil {
		return uuid.Nil
	}
	return r.ID
}
