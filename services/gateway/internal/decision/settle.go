package decision

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// ErrNotFound says that a tenant has no such decision.
func ErrNotFound(id uuid.UUID) error {
	return fault.New(fault.NotFound, "there is no decision %s", id).WithReason("DECISION_NOT_FOUND").WithMeta("decision_id", id.String())
}

// Settle charges what an action really used, judges its output by the POST_
// policies, and records how it ended. The same request again gets the same
// answer. The charge comes first and never waits for policies: the money is
// spent whatever they say.
func (p *Pipeline) Settle(ctx context.Context, who identity.Principal, req *governancev1.SettleRequest) (*governancev1.SettleResponse, error) {
	began := time.Now()
	claim, d, stored, err := begin[governancev1.SettleResponse](ctx, p, who, "Settle", req.GetDecisionId(), req.GetIdempotencyKey(), req)
	if stored != nil || err != nil {
		return stored, err
	}
	charge, err := p.charge(ctx, d, req)
	if err != nil {
		return nil, err
	}
	resp := &governancev1.SettleResponse{
		Charged: charge.GetCharged(), Overrun: charge.GetOverrun(), Budgets: charge.GetBudgets(), PriceVersion: charge.GetPriceVersion(),
	}
	entry := &Entry{Tenant: who.Tenant, Claim: claim, Ends: ending(d, calledOff(req), resp.GetCharged())}
	if req.GetOutputText() != "" {
		if err := p.judgeOutput(ctx, who, d, req, resp, entry); err != nil {
			return nil, err
		}
	}
	event := aboutDecision(who, d, "action_settled")
	event.Action = "settle"
	event.Decision = ""
	event.Payload = payload(map[string]any{
		"decision_id": d.ID.String(), "outcome": req.GetOutcome().String(), "reservation_id": d.Reservation.String(),
		"charged_cost_nano": fmt.Sprint(resp.GetCharged().GetCostNano()), "overrun_cost_nano": fmt.Sprint(resp.GetOverrun().GetCostNano()),
		"price_version": resp.GetPriceVersion(), "late": charge.GetLate(), "output_decision": Name(resp.GetOutputDecision()),
	})
	entry.Events = append(entry.Events, event)
	got, err := finish(ctx, p, entry, resp)
	if err == nil && entry.Decision != nil {
		p.observe(ctx, MethodSettle, resp.GetOutputDecision(), time.Since(began))
	}
	return got, err
}

// charge settles with the ledger; an action that was called off and used
// nothing is released instead.
func (p *Pipeline) charge(ctx context.Context, d Record, req *governancev1.SettleRequest) (*budgetv1.SettleResponse, error) {
	key := ledgerKey("settle", d.ID, req.GetIdempotencyKey())
	if calledOff(req) {
		released, err := p.release(ctx, d, "the action was cancelled", key)
		return &budgetv1.SettleResponse{Budgets: released.GetBudgets()}, err
	}
	usage := proto.CloneOf(req.GetUsage())
	if usage != nil && usage.GetModel() == "" {
		usage.Model = d.Facts.GetModelId()
	}
	return p.Ledger.Settle(ctx, &budgetv1.SettleRequest{
		ReservationId:  d.Reservation.String(),
		Usage:          usage,
		IdempotencyKey: key,
		Failed:         req.GetOutcome() != governancev1.Outcome_OUTCOME_SUCCESS,
		Subject: &budgetv1.Subject{
			Team: d.Facts.GetAgentTeam(), AgentId: d.Facts.GetAgentId(), UserId: d.Facts.GetUserId(), WorkflowId: d.Facts.GetWorkflowId(),
			ApiKeyId: d.KeyID, Model: d.Facts.GetModelId(), EnvelopeId: d.Facts.GetEnvelopeId(),
		},
	})
}

// calledOff reports whether an action that is settled never happened.
func calledOff(req *governancev1.SettleRequest) bool {
	return req.GetOutcome() == governancev1.Outcome_OUTCOME_CANCELLED && req.GetUsage() == nil
}

// judgeOutput asks the POST_ policies about the output, and records their
// answer as a decision of its own.
func (p *Pipeline) judgeOutput(ctx context.Context, who identity.Principal, d Record, req *governancev1.SettleRequest,
	resp *governancev1.SettleResponse, entry *Entry) error {
	f := proto.CloneOf(d.Facts)
	f.Phase = phaseAfter(f.GetAction().GetKind())
	f.OutputText = proto.String(req.GetOutputText())
	f.TimeUnixNano = time.Now().UnixNano()
	id := newID()
	c := countedOf(who, d)
	result, err := p.remembering(ctx, c, &policyenginev1.EvaluateRequest{Facts: f, SampleKey: id.String()})
	if err != nil {
		return err
	}
	result = remember(c, result, entry)
	resp.OutputDecision, resp.OutputReasons = result.GetDecision(), result.GetReasons()
	answer := &governancev1.AuthorizeResponse{
		DecisionId: id.String(), Decision: result.GetDecision(), Reasons: result.GetReasons(), Obligations: result.GetObligations(),
		PolicySetVersion: result.GetPolicySetVersion(), EvaluatedUs: result.GetEvaluatedUs(), Degraded: result.GetDegraded(),
		EnvelopeId: f.GetEnvelopeId(),
	}
	answer.Message = message(answer)
	entry.Decision = &Record{
		ID: parse(answer.GetDecisionId()), DecidedAt: time.Unix(0, f.GetTimeUnixNano()), Method: MethodSettle, Parent: d.ID, Envelope: d.Envelope,
		KeyID: who.KeyID, Team: f.GetAgentTeam(), Facts: f, Result: result, Response: answer,
	}
	entry.Events = append(entry.Events, decisionEvent(who, entry.Decision))
	if result.GetTerminateEnvelope() && d.Envelope != uuid.Nil {
		entry.Moves = append(entry.Moves, envelope.Move{Envelope: d.Envelope, To: envelope.PolicyViolation, Reason: answer.GetMessage()})
	}
	return nil
}

// Release gives the whole hold of an action back: it did not happen.
func (p *Pipeline) Release(ctx context.Context, who identity.Principal, req *governancev1.ReleaseRequest) (*governancev1.ReleaseResponse, error) {
	claim, d, stored, err := begin[governancev1.ReleaseResponse](ctx, p, who, "Release", req.GetDecisionId(), req.GetIdempotencyKey(), req)
	if stored != nil || err != nil {
		return stored, err
	}
	released, err := p.release(ctx, d, req.GetReason(), ledgerKey("release", d.ID, req.GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	resp := &governancev1.ReleaseResponse{Released: released.GetReleased(), Budgets: released.GetBudgets()}
	event := aboutDecision(who, d, "action_released")
	event.Action = "release"
	event.Payload = payload(map[string]any{
		"decision_id": d.ID.String(), "reason": req.GetReason(), "reservation_id": d.Reservation.String(),
		"released_cost_nano": fmt.Sprint(resp.GetReleased().GetCostNano()),
	})
	return finish(ctx, p, &Entry{Tenant: who.Tenant, Claim: claim, Ends: ending(d, true, nil), Events: []*busv1.Event{event}}, resp)
}

func (p *Pipeline) release(ctx context.Context, d Record, reason, key string) (*budgetv1.ReleaseResponse, error) {
	if d.Response.GetHold() == nil {
		return &budgetv1.ReleaseResponse{}, nil // nothing was held
	}
	return p.Ledger.Release(ctx, &budgetv1.ReleaseRequest{ReservationId: d.Reservation.String(), Reason: reason, IdempotencyKey: key})
}

// Renew keeps the hold of an action alive, and its places among what runs in
// parallel. The ledger remembers the key.
func (p *Pipeline) Renew(ctx context.Context, who identity.Principal, req *governancev1.RenewRequest) (*governancev1.RenewResponse, error) {
	_, d, _, err := begin[governancev1.RenewResponse](ctx, p, who, "Renew", req.GetDecisionId(), req.GetIdempotencyKey(), req)
	if err != nil {
		return nil, err
	}
	var slots int
	var until time.Time
	if parallel(d.Response.GetObligations()) {
		if slots, until, err = p.Store.RenewSlots(ctx, who.Tenant, d.ID, req.GetHoldTtl().AsDuration()); err != nil {
			return nil, err
		}
		if slots == 0 {
			return nil, fault.New(fault.Precondition, "the place of decision %s among what runs in parallel has expired or was given back", d.ID).
				WithReason("SLOT_ENDED").WithMeta("decision_id", d.ID.String())
		}
	}
	if d.Response.GetHold() == nil {
		if slots > 0 {
			return &governancev1.RenewResponse{ExpiresAt: timestamppb.New(until)}, nil
		}
		return nil, fault.New(fault.Precondition, "decision %s holds nothing", d.ID).WithReason("NOTHING_HELD")
	}
	renewed, err := p.Ledger.Renew(ctx, &budgetv1.RenewRequest{
		ReservationId: d.Reservation.String(), Ttl: durationpb.New(req.GetHoldTtl().AsDuration()),
		IdempotencyKey: ledgerKey("renew", d.ID, req.GetIdempotencyKey()),
	})
	if err != nil {
		return nil, err
	}
	return &governancev1.RenewResponse{ExpiresAt: renewed.GetExpiresAt()}, nil
}

// begin reads the decision that a later call is about. It returns the stored
// answer if this very request was answered before.
func begin[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, p *Pipeline, who identity.Principal, scope, decision, key string, req proto.Message) (*Claim, Record, *T, error) {
	hash, err := fingerprint(scope, who, req)
	if err != nil {
		return nil, Record{}, nil, err
	}
	claim := &Claim{Scope: scope, Key: key, Hash: hash}
	id := parse(decision)
	d, stored, err := p.Store.LoadDecision(ctx, who.Tenant, id, Query{Scope: scope, Key: key})
	if err != nil {
		return nil, Record{}, nil, err
	}
	if stored != nil {
		if stored.Answered {
			resp, err := answered[T, M](*claim, stored.Hash, stored.Response)
			return nil, d, resp, err
		}
		claim.Attempt = stored.Attempt
	}
	switch {
	case d.ID == uuid.Nil || d.Method != MethodAuthorize:
		return nil, d, nil, ErrNotFound(id)
	case d.Response.GetDecision() != allow && d.Response.GetDecision() != warn:
		return nil, d, nil, fault.New(fault.Precondition, "the decision was %s: there is nothing to settle", Name(d.Response.GetDecision())).
			WithReason("NOT_AUTHORIZED").WithMeta("decision_id", id.String())
	}
	return claim, d, nil, nil
}

// finish records what a later call did, and answers. The ledger has the effect
// already, under a key of its own, so a repetition after a failure here only
// repeats the recording.
func finish[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, p *Pipeline, e *Entry, resp M) (*T, error) {
	response, err := proto.Marshal(resp)
	if err != nil {
		return nil, fmt.Errorf("write answer: %w", err)
	}
	e.Claim.Response = response
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(p.Limits.Record, 5*time.Second))
	defer cancel()
	done, err := p.Recorder.Record(ctx, e)
	switch {
	case fault.HasReason(err, ErrKeyReused.Reason):
		return nil, err
	case err != nil:
		p.Log.LogAttrs(ctx, slog.LevelWarn, "outcome not recorded", slog.String("tenant_id", e.Tenant.String()), slog.Any("err", err))
		return nil, unrecorded(err)
	case done.Stored != nil:
		stored := new(T)
		return stored, proto.Unmarshal(done.Stored, M(stored))
	}
	return (*T)(resp), nil
}

// aboutDecision is a fact about an action that was decided on earlier.
func aboutDecision(who identity.Principal, d Record, kind string) *busv1.Event {
	event := newEvent(who, kind, time.Now())
	f := d.Facts
	event.Resource = resource(f.GetAction())
	event.EnvelopeId, event.WorkflowId = f.GetEnvelopeId(), f.GetWorkflowId()
	event.AgentId, event.Team, event.UserId = f.GetAgentId(), f.GetAgentTeam(), f.GetUserId()
	return event
}
