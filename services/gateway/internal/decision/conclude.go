package decision

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// conclude records the decision and answers. If it cannot be recorded, there is
// none: what was held is given back, and the caller hears an error.
func (p *Pipeline) conclude(ctx context.Context, a *ask) (*governancev1.AuthorizeResponse, error) {
	entry, err := a.entry()
	if err != nil {
		return nil, err
	}
	done, err := p.record(ctx, entry)
	if full := new(FullError); errors.As(err, &full) {
		a.full(full)
		return p.conclude(ctx, a) // a denial, or what only warned is taken now: it ends
	}
	switch {
	case err == nil && done.Stored == nil:
		p.observe(ctx, MethodAuthorize, a.resp.GetDecision(), time.Since(a.began))
		if a.resp.GetDecision() == deny && a.held {
			go p.giveBack(ctx, a) // the ledger did not answer: it may hold something nobody knows of
		}
		return a.resp, nil
	case err == nil:
		return p.lostRace(ctx, a, done.Stored)
	case errors.Is(err, ErrKeyReused):
		p.giveBack(ctx, a)
		return nil, err
	case errors.Is(err, ErrEnvelopeEnded), errors.Is(err, ErrGivenUp), errors.Is(err, approval.ErrUsed):
		p.Memory.forget(a.who.Tenant, a.query.Envelope)
		return nil, p.startOver(ctx, a, err)
	case errors.Is(err, envelope.ErrTreeFull):
		if over := p.startOver(ctx, a, err); !errors.Is(over, errAgain) {
			return nil, over
		}
		return nil, err
	}
	return p.unknown(ctx, a, err)
}

// lostRace answers with what another call recorded under the same key, and
// gives back what this one held beside it.
func (p *Pipeline) lostRace(ctx context.Context, a *ask, stored []byte) (*governancev1.AuthorizeResponse, error) {
	resp := new(governancev1.AuthorizeResponse)
	if err := proto.Unmarshal(stored, resp); err != nil {
		return nil, err
	}
	if resp.GetHold().GetReservationId() != a.reservation.String() {
		p.giveBack(ctx, a)
	}
	return resp, nil
}

// unknown finds out what became of an entry whose recording failed: recorded
// after all, or never to be.
func (p *Pipeline) unknown(ctx context.Context, a *ask, cause error) (*governancev1.AuthorizeResponse, error) {
	tidy, cancel := p.tidying(ctx)
	defer cancel()
	_, err := p.Store.GiveUp(tidy, a.who.Tenant, a.claim)
	switch {
	case err == nil:
		p.giveBack(ctx, a)
	case errors.Is(err, ErrRecorded):
		if ld, err := p.Store.Load(tidy, a.who.Tenant, Query{Scope: a.claim.Scope, Key: a.claim.Key}); err == nil && ld.Key != nil && ld.Key.Answered {
			return answered[governancev1.AuthorizeResponse](a.claim, ld.Key.Hash, ld.Key.Response)
		}
	default:
		// The hold stays: a repetition takes it over, or it expires. To give it
		// back now could take it from a decision that was recorded.
		p.Log.LogAttrs(ctx, slog.LevelWarn, "outcome of recording unknown", slog.String("tenant_id", a.who.Tenant.String()),
			slog.String("reservation_id", a.reservation.String()), slog.Any("err", err))
	}
	return nil, unrecorded(cause)
}

// startOver makes sure that this attempt leaves nothing behind, and asks for
// the next one.
func (p *Pipeline) startOver(ctx context.Context, a *ask, cause error) error {
	if a.req.GetDryRun() {
		return cause
	}
	tidy, cancel := p.tidying(ctx)
	defer cancel()
	_, err := p.Store.GiveUp(tidy, a.who.Tenant, a.claim)
	if errors.Is(err, ErrRecorded) {
		return errAgain // the next attempt finds the stored answer
	}
	if err != nil {
		return unrecorded(errors.Join(cause, err))
	}
	p.giveBack(ctx, a)
	return errAgain
}

// giveBack releases the hold of an attempt that can never be recorded. Should
// it fail, the hold expires by itself.
func (p *Pipeline) giveBack(ctx context.Context, a *ask) {
	if !a.held {
		return
	}
	tidy, cancel := p.tidying(ctx)
	defer cancel()
	_, err := p.Ledger.Release(tidy, &budgetv1.ReleaseRequest{
		ReservationId:  a.reservation.String(),
		Reason:         "the decision was not recorded",
		IdempotencyKey: "gw:unrecorded:" + a.reservation.String(),
	})
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Precondition) {
		p.Log.LogAttrs(ctx, slog.LevelWarn, "hold not given back, it will expire",
			slog.String("reservation_id", a.reservation.String()), slog.Any("err", err))
	}
}

func (p *Pipeline) tidying(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(p.Limits.Tidy, 2*time.Second))
}
