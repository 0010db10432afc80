package decision

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// defaultHold is how long a hold lives when the caller does not say.
const defaultHold = 10 * time.Minute

// ask is one call of Authorize on its way.
type ask struct {
	who   identity.Principal
	req   *governancev1.AuthorizeRequest
	claim Claim
	query Query
	began time.Time

	now    time.Time // the database's clock, or after recall this process's
	actor  actor
	env    *envelope.Envelope // the action's, existing or to be opened; nil: outside any
	inline bool               // env is to be opened
	grant  *approval.Granted  // nil: no approval was shown

	id          uuid.UUID
	reservation uuid.UUID
	facts       *policyenginev1.Facts
	result      *policyenginev1.EvaluateResponse
	resp        *governancev1.AuthorizeResponse
	request     *approval.Request
	use         *approval.Use
	takes       []Take
	refused     string // why the approval that was shown does not count; "": it does, or none was
	moves       []envelope.Move
	held        bool // the ledger may hold something under reservation
	recallable  bool // nothing has shown yet that what is remembered is outdated
	latency     busv1.LatencyFact
}

// Authorize answers whether an action may happen now. What it returns is
// durable, except for a dry run, which leaves nothing behind. The same request
// again gets the same answer.
func (p *Pipeline) Authorize(ctx context.Context, who identity.Principal, req *governancev1.AuthorizeRequest) (*governancev1.AuthorizeResponse, error) {
	began := time.Now()
	hash, err := fingerprint("Authorize", who, req)
	if err != nil {
		return nil, err
	}
	first := true
	return again(func() (*governancev1.AuthorizeResponse, error) {
		a := &ask{recallable: first,
			who: who, req: req, began: began, id: newID(),
			claim: Claim{Scope: "Authorize", Key: req.GetIdempotencyKey(), Hash: hash},
		}
		first = false
		return p.authorize(ctx, a)
	})
}

func (p *Pipeline) authorize(ctx context.Context, a *ask) (*governancev1.AuthorizeResponse, error) {
	recalled, err := p.recall(a)
	if err != nil {
		return nil, err
	}
	if !recalled {
		stored, err := p.load(ctx, a)
		if stored != nil || err != nil {
			return stored, err
		}
	}
	if err := p.decide(ctx, a); err != nil {
		return nil, err
	}
	if a.resp.GetDecision() == allow || a.resp.GetDecision() == warn {
		a.count()
	}
	if a.resp.GetDecision() == allow || a.resp.GetDecision() == warn {
		p.throttle(ctx, a)
	}
	if a.resp.GetDecision() == allow || a.resp.GetDecision() == warn {
		if err := p.hold(ctx, a); err != nil {
			return nil, err
		}
	}
	a.measure()
	a.resp.Message = message(a.resp)
	if a.req.GetDryRun() {
		if err := p.tryLimits(ctx, a); err != nil {
			return nil, err
		}
		a.resp.DecisionId = ""
		return a.resp, nil
	}
	return p.conclude(ctx, a)
}

// load reads what the decision starts from. It returns the stored answer if
// this very request was answered before.
func (p *Pipeline) load(ctx context.Context, a *ask) (*governancev1.AuthorizeResponse, error) {
	a.query = Query{Scope: a.claim.Scope, Key: a.claim.Key}
	inline := a.req.GetInline()
	a.query.Envelope = parse(first(a.req.GetEnvelopeId(), inline.GetParentEnvelopeId()))
	a.query.Approval = parse(a.req.GetApprovalId())

	ld, err := p.Store.Load(ctx, a.who.Tenant, a.query)
	if err != nil {
		return nil, err
	}
	if key := ld.Key; key != nil {
		if key.Answered {
			return answered[governancev1.AuthorizeResponse](a.claim, key.Hash, key.Response)
		}
		a.claim.Attempt = key.Attempt
	}
	a.now = ld.Now
	a.reservation = derive("reservation", a.who.Tenant, a.claim, a.now)
	if a.grant = ld.Approval; a.grant == nil && a.query.Approval != uuid.Nil {
		return nil, p.refuseUnknown(ctx, a)
	}
	if a.query.Envelope != uuid.Nil && ld.Envelope == nil {
		return nil, envelope.ErrNotFound(a.query.Envelope)
	}
	a.env = ld.Envelope
	if inline != nil {
		a.inline = true
		if a.env, err = opened(a, inline, ld.Envelope); err != nil {
			return nil, err
		}
	}
	if ld.Envelope != nil && !a.inline {
		p.Memory.remember(a.who.Tenant, ld.Envelope)
	}
	a.actor, err = actorOf(a.who, a.env, a.req.GetPrincipal())
	return nil, err
}

// opened is the envelope that an inline one asks for.
func opened(a *ask, in *governancev1.InlineEnvelope, parent *envelope.Envelope) (*envelope.Envelope, error) {
	if in.GetGovernance().GetSliceOfParent() {
		return nil, fault.Field("inline.governance.slice_of_parent", "is for envelopes that are opened by CreateEnvelope")
	}
	id := derive("envelope", a.who.Tenant, a.claim, a.now)
	return newEnvelope(newEnvelopeInput{
		id: id, who: a.who, parent: parent, now: a.now, field: "inline.governance",
		agentID: in.GetAgentId(), workflowID: in.GetWorkflowId(), governance: in.GetGovernance(),
		userID: a.req.GetPrincipal().GetUserId(),
	})
}

// decide asks the policies, unless the envelope has the answer already, and
// weighs an approval that was shown.
func (p *Pipeline) decide(ctx context.Context, a *ask) error {
	a.resp = &governancev1.AuthorizeResponse{DecisionId: a.id.String()}
	a.facts = facts(a.now.UnixNano(), a.actor, a.env, a.req)
	if a.env != nil && !a.inline {
		a.resp.EnvelopeId = a.env.ID.String()
		if standing := a.env.Standing(); !standing.Acts() {
			a.refuseEnvelope(standing)
			return nil
		}
	}
	begin := time.Now()
	result, err := p.evaluate(ctx, a)
	if err != nil {
		return err
	}
	a.latency.EvaluateUs = time.Since(begin).Microseconds()
	a.result = result
	r := a.resp
	r.Decision, r.Reasons, r.Obligations = result.GetDecision(), result.GetReasons(), result.GetObligations()
	r.PolicySetVersion, r.EvaluatedUs, r.Degraded = result.GetPolicySetVersion(), result.GetEvaluatedUs(), result.GetDegraded()
	if result.GetTerminateEnvelope() && a.env != nil && !a.inline {
		a.moves = append(a.moves, envelope.Move{Envelope: a.env.ID, To: envelope.PolicyViolation, Reason: message(r)})
	}
	if r.GetDecision() == requireApproval {
		return p.weighApproval(a)
	}
	return nil
}

// evaluate judges the action; and an envelope that opens with it, first.
func (p *Pipeline) evaluate(ctx context.Context, a *ask) (*policyenginev1.EvaluateResponse, error) {
	req := &policyenginev1.EvaluateRequest{Facts: a.facts, AtLeastVersion: a.req.GetAtLeastVersion()}
	if !a.req.GetDryRun() {
		req.SampleKey = a.id.String()
	}
	if !a.inline {
		return p.remembering(ctx, a.acting(), req)
	}
	before := proto.CloneOf(a.facts)
	before.Phase = policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_EXECUTION
	opening, err := p.remembering(ctx, a.acting(), &policyenginev1.EvaluateRequest{Facts: before, AtLeastVersion: a.req.GetAtLeastVersion()})
	if err != nil || opening.GetDecision() == deny {
		return opening, err
	}
	acting, err := p.remembering(ctx, a.acting(), req)
	if err != nil {
		return nil, err
	}
	return stronger(opening, acting), nil
}

// refuseEnvelope denies because of where the envelope stands. That is an
// answer, not an error: to an agent whose envelope was killed, an error might
// look like permission to go on.
func (a *ask) refuseEnvelope(standing envelope.Status) {
	text := "the envelope is " + string(standing)
	if a.env.Reason != "" {
		text += ": " + a.env.Reason
	}
	a.resp.Decision = deny
	a.resp.Reasons = []*governancev1.Reason{ownReason("ENVELOPE_NOT_ACTIVE", "envelope", text, deny)}
	if standing == envelope.Timeout && a.env.Status != envelope.Timeout {
		a.moves = append(a.moves, envelope.Move{Envelope: a.env.ID, To: envelope.Timeout, Reason: "its time ran out"})
	}
}

// answered is the stored answer of a request, or ErrKeyReused if the key was
// another request's.
func answered[T any, M interface {
	*T
	proto.Message
}](c Claim, hash, response []byte) (*T, error) {
	if string(hash) != string(c.Hash[:]) {
		return nil, ErrKeyReused
	}
	resp := new(T)
	if err := proto.Unmarshal(response, M(resp)); err != nil {
		return nil, err
	}
	return resp, nil
}

// parse reads an id that validation has let through; "" is the zero UUID.
func parse(s string) uuid.UUID {
	id, err := uuid.Parse(s)
	if err != nil {
		return uuid.Nil
	}
	return id
}
