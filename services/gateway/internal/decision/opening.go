package decision

import (
	"context"
	"errors"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/quota"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// opening is a new envelope on its way into the record.
type opening struct {
	who    identity.Principal
	env    *envelope.Envelope
	facts  *policyenginev1.Facts
	result *policyenginev1.EvaluateResponse
	resp   *governancev1.AuthorizeResponse
	entry  *Entry
	now    time.Time
}

// recordOpening records what became of it.
func (p *Pipeline) recordOpening(ctx context.Context, o *opening) error {
	env, resp, entry := o.env, o.resp, o.entry
	resp.Message = message(resp)
	if env.Reason = resp.GetMessage(); env.Status == envelope.Authorized && resp.GetDecision() == allow {
		env.Reason = ""
	}
	entry.Decision = &Record{
		ID: parse(resp.GetDecisionId()), DecidedAt: o.now, Method: MethodOpen, Envelope: env.ID, KeyID: o.who.KeyID, Team: env.Team,
		Approval: idOf(entry.Ask), Facts: o.facts, Result: o.result, Response: resp,
	}
	event := decisionEvent(o.who, entry.Decision)
	event.Resource, event.ExecutionId = "envelope:"+env.ID.String(), env.ExecutionID
	entry.Events = []*busv1.Event{openedEvent(o.who, env), event}
	if entry.Ask != nil {
		entry.Events = append(entry.Events, requestedEvent(event, entry.Ask, o.now))
	}
	entry.Learns = nil
	if Acts(resp.GetDecision()) {
		entry.Learns = openedBy(o.who, env).learned(o.result)
	}
	full := new(FullError)
	switch _, err := p.record(ctx, entry); {
	case errors.As(err, &full):
		o.full(full)
		return p.recordOpening(ctx, o) // a denial, or what only warned is taken now: it ends
	case err == nil, errors.Is(err, envelope.ErrTreeFull), errors.Is(err, ErrEnvelopeEnded):
		return err
	default:
		return unrecorded(err)
	}
}

// count reads the limits that rules set on opening. One that waits for an
// approval counts already. A place among what runs in parallel is the envelope's
// for as long as it lives.
func (o *opening) count() {
	if o.env.Status.Final() {
		return
	}
	takes, problem := openedBy(o.who, o.env).takes(o.result.GetObligations())
	if problem != nil {
		o.refuse(problem)
		return
	}
	for i := range takes {
		switch t := &takes[i]; {
		case t.Limit.Kind == quota.Parallel && !o.env.ExpiresAt.IsZero():
			t.Seconds = int64(o.env.ExpiresAt.Sub(o.now)/time.Second) + 1
		case t.Limit.Of != quota.Calls:
			t.Amount = 0 // opening costs nothing
		}
	}
	o.entry.Takes = takes
}

// openedBy is who opens an envelope.
func openedBy(who identity.Principal, env *envelope.Envelope) *counted {
	return &counted{
		who: who, actor: actor{agentID: env.AgentID, team: env.Team, userID: env.UserID}, env: env,
		workflow: env.WorkflowID, tool: "create_envelope",
	}
}

// full makes a denial of limits that leave no room, except those that only warn.
func (o *opening) full(e *FullError) {
	var denials []*governancev1.Reason
	takes := o.entry.Takes
	for _, f := range e.Full {
		t := &takes[f.Take]
		if t.Limit.Level == "WARN" {
			t.Forced, o.resp.Decision = true, max(o.resp.GetDecision(), warn)
			o.resp.Reasons = append(o.resp.GetReasons(), namedBy(o.result, limitReason(t.Limit, "", fullText(t, f), warn)))
			continue
		}
		denials = append(denials, namedBy(o.result, limitReason(t.Limit, "", fullText(t, f), deny)))
		o.resp.RefusedBy = refusedBy(t, f, o.now)
	}
	if len(denials) > 0 {
		o.refuse(denials...)
	}
}

func (o *opening) refuse(why ...*governancev1.Reason) {
	o.resp.Decision, o.resp.Reasons = deny, append(why, o.resp.GetReasons()...)
	o.entry.Takes, o.entry.Ask = nil, nil // nothing is left to take, or to approve of
	o.env.Status, o.env.CompletedAt = envelope.PolicyViolation, o.env.CreatedAt
}
