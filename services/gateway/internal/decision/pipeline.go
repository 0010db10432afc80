package decision

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// Decisions, short.
const (
	allow           = governancev1.Decision_DECISION_ALLOW
	warn            = governancev1.Decision_DECISION_WARN
	requireApproval = governancev1.Decision_DECISION_REQUIRE_APPROVAL
	deny            = governancev1.Decision_DECISION_DENY
)

// Limits bound what one decision waits for. Zero values mean the defaults.
type Limits struct {
	Evaluate  time.Duration // 2 s
	Reserve   time.Duration // 3 s
	Record    time.Duration // 5 s
	Standings time.Duration // 1 s: how far budgets are used, for policies that ask
	Tidy      time.Duration // 2 s: cleaning up after a decision that could not be recorded
}

// Observer is told of every decision that was recorded.
type Observer func(ctx context.Context, m Method, d governancev1.Decision, took time.Duration)

// Pipeline decides. Safe for concurrent use.
type Pipeline struct {
	Store    Store
	Recorder Recorder
	Policies Policies
	Ledger   Ledger
	Tenants  Tenants
	Rates    Rates   // nil: rates that rules set are left to the caller
	Memory   *Memory // nil: every decision reads first
	Observe  Observer
	Log      *slog.Logger
	Limits   Limits
}

// attempts bounds how often one call starts over because the world moved on
// under it: an envelope ended, an approval was used up, a hold had expired.
const attempts = 4

// errAgain says that the attempt left nothing behind and shall be made again.
var errAgain = errors.New("decide again")

// errBusy is what a caller hears when every attempt lost a race.
var errBusy = fault.New(fault.Down, "the state that this decision depends on keeps changing").
	WithReason("CONTENDED").WithRetry(100 * time.Millisecond)

// again runs f until it does not ask to be run again.
func again[T any](f func() (T, error)) (T, error) {
	var none T
	for range attempts {
		v, err := f()
		if !errors.Is(err, errAgain) {
			return v, err
		}
	}
	return none, errBusy
}

// judge asks the policies. When they cannot answer, the tenant's failure mode
// does, and says so. A caller who gave up, sent facts that cannot be judged, or
// insists on a policy or a policy-set version that is not there gets an error
// instead.
func (p *Pipeline) judge(ctx context.Context, tenant uuid.UUID, req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	limited, cancel := context.WithTimeout(ctx, cmp.Or(p.Limits.Evaluate, 2*time.Second))
	defer cancel()
	result, err := p.Policies.Evaluate(limited, req)
	switch {
	case err == nil && result.GetDecision() != governancev1.Decision_DECISION_UNSPECIFIED:
		return result, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case fault.Is(err, fault.Invalid), fault.Is(err, fault.NotFound) && len(req.GetPolicyIds()) > 0,
		req.GetAtLeastVersion() > 0 && fault.Is(err, fault.Down):
		return nil, err
	}
	if err == nil {
		err = errors.New("the policy engine answered nothing")
	}
	p.Log.LogAttrs(ctx, slog.LevelWarn, "policies could not be asked", slog.String("tenant_id", tenant.String()), slog.Any("err", err))
	return p.withoutPolicies(ctx, tenant), nil
}

func (p *Pipeline) withoutPolicies(ctx context.Context, tenant uuid.UUID) *policyenginev1.EvaluateResponse {
	result := &policyenginev1.EvaluateResponse{Decision: deny, Degraded: true}
	message := "the policies could not be evaluated, and this tenant's failure mode is to deny"
	if p.modes(ctx, tenant).PolicyOpen {
		result.Decision = allow
		message = "the policies could not be evaluated, and this tenant's failure mode is to allow"
	}
	result.Reasons = []*governancev1.Reason{ownReason("POLICY_ENGINE_UNAVAILABLE", "failure mode", message, result.Decision)}
	return result
}

// modes returns the tenant's failure modes; not knowing them means to deny.
func (p *Pipeline) modes(ctx context.Context, tenant uuid.UUID) FailureModes {
	modes, err := p.Tenants.FailureModes(ctx, tenant)
	if err != nil {
		p.Log.LogAttrs(ctx, slog.LevelWarn, "failure mode unknown, denying", slog.String("tenant_id", tenant.String()), slog.Any("err", err))
		return FailureModes{}
	}
	return modes
}

// record makes e durable even if the caller has gone by now: what was decided,
// and may be held, shall be known.
func (p *Pipeline) record(ctx context.Context, e *Entry) (Recorded, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(p.Limits.Record, 5*time.Second))
	defer cancel()
	return p.Recorder.Record(ctx, e)
}

// unrecorded is what a caller hears when a decision was made that could not be
// made durable: there is no decision then.
func unrecorded(cause error) error {
	return fault.New(fault.Down, "the decision could not be recorded, so there is none").
		WithReason("NOT_RECORDED").WithRetry(time.Second).
		WithHint("Repeat the call with the same idempotency key.").
		WithCause(cause)
}

func (p *Pipeline) observe(ctx context.Context, m Method, d governancev1.Decision, took time.Duration) {
	if p.Observe != nil {
		p.Observe(ctx, m, d, took)
	}
}

// ownReason is a reason that no policy gave. code is stable, for programs.
func ownReason(code, name, message string, d governancev1.Decision) *governancev1.Reason {
	severity := "LOW"
	if d == deny {
		severity = "HIGH"
	}
	return &governancev1.Reason{RuleId: code, RuleName: name, Message: message, Severity: severity, Decision: d}
}
