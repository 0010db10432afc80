// Package api speaks gRPC for the budget service: it translates and decides nothing.
package api

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Lane does ops and answers once they are durable.
type Lane interface {
	Do(ctx context.Context, op ledger.Op) (ledger.Answer, error)
	// DoAll does many ops of one tenant, and answers each.
	DoAll(ctx context.Context, ops []ledger.Op) []groupcommit.Result[ledger.Answer]
	// Ready returns once the tenant's configuration is there, with ctx if that ends
	// first, or says why it cannot be had.
	Ready(ctx context.Context, tenant uuid.UUID) error
	// StartAll queues ops of one tenant together, behind those started before. wait
	// is the rest of Do for the op at i, at most once for each; refused says at once
	// why an op was not queued, and is nil for one that was. own, unless nil, says
	// which context an op has for itself instead of ctx.
	StartAll(ctx context.Context, ops []ledger.Op, own func(i int) context.Context) (wait func(i int) (ledger.Answer, error), refused func(i int) error)
}

// Reader looks at the ledger without changing it.
type Reader interface {
	Try(ctx context.Context, r *ledger.Reserve) (ledger.Answer, error)
	Reservation(ctx context.Context, ref ledger.Ref) (ledger.Standing, error)
	// Named returns budgets by their names, and their windows.
	Named(ctx context.Context, tenant uuid.UUID, names []string, of *catalog.Subject) ([]*catalog.Budget, []*ledger.Window, error)
}

// Observer is told how calls ended.
type Observer interface {
	Reserved(ctx context.Context, a ledger.Answer)
	Settled(ctx context.Context, a ledger.Answer)
}

// Ledger is the gRPC face of the ledger.
type Ledger struct {
	budgetv1.UnimplementedLedgerServiceServer
	lane     Lane
	reader   Reader
	observer Observer
	log      *slog.Logger
}

// NewLedger returns a Ledger over lane and reader.
func NewLedger(lane Lane, reader Reader, observer Observer, log *slog.Logger) *Ledger {
	return &Ledger{lane: lane, reader: reader, observer: observer, log: log}
}

// defaultTTL is how long a hold lives if the caller does not say.
const defaultTTL = 10 * time.Minute

// Reserve implements budgetv1.LedgerServiceServer.
func (l *Ledger) Reserve(ctx context.Context, req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
	op, err := reserveOf(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.GetDryRun() {
		a, err := l.reader.Try(ctx, op)
		if err != nil {
			return nil, err
		}
		return reserved(op.Ref, a), nil
	}
	a, err := l.lane.Do(ctx, op)
	if err != nil {
		return nil, err
	}
	l.observer.Reserved(ctx, a)
	return reserved(op.Ref, a), nil
}

func reserveOf(ctx context.Context, req *budgetv1.ReserveRequest) (*ledger.Reserve, error) {
	ref, err := refOf(ctx, req.GetReservationId())
	if err != nil {
		return nil, err
	}
	op := &ledger.Reserve{Ref: ref, TTL: defaultTTL, BudgetID: req.GetBudgetId()}
	if req.GetTtl() != nil {
		op.TTL = req.GetTtl().AsDuration().Truncate(time.Millisecond)
	}
	if op.Subject, err = subject(req.GetSubject()); err != nil {
		return nil, err
	}
	if op.Amounts, err = amounts(req.GetAmounts()); err != nil {
		return nil, err
	}
	for _, e := range req.GetEnvelopeLimits() {
		op.Envelopes = append(op.Envelopes, envelopeLimits(e))
	}
	return op.Seal(), nil
}

func reserved(ref ledger.Ref, a ledger.Answer) *budgetv1.ReserveResponse {
	out := &budgetv1.ReserveResponse{
		Granted:      a.Granted,
		Reason:       a.Reason,
		Message:      a.Message,
		PriceVersion: a.PriceVersion,
		Warnings:     budgetStates(a.Warnings),
		Retryable:    a.Retryable,
	}
	if !a.Suggested.IsZero() {
		out.Suggested = protoAmounts(a.Suggested)
	}
	if a.Held {
		out.Hold = &governancev1.Hold{
			ReservationId: ref.ID.String(),
			Amounts:       protoAmounts(a.Amounts),
			ExpiresAt:     timestamppb.New(a.ExpiresAt),
			Budgets:       budgetStates(a.States),
		}
	}
	if a.RefusedBy != nil {
		out.RefusedBy = budgetState(*a.RefusedBy)
	}
	if a.RetryAfter > 0 {
		out.RetryAfter = durationpb.New(a.RetryAfter)
	}
	return out
}

// Settle implements budgetv1.LedgerServiceServer.
func (l *Ledger) Settle(ctx context.Context, req *budgetv1.SettleRequest) (*budgetv1.SettleResponse, error) {
	op, err := settleOf(ctx, req)
	if err != nil {
		return nil, err
	}
	a, err := l.lane.Do(ctx, op)
	if err != nil {
		return nil, err
	}
	l.observer.Settled(ctx, a)
	return settled(a), nil
}

func settleOf(ctx context.Context, req *budgetv1.SettleRequest) (*ledger.Settle, error) {
	ref, err := refOf(ctx, req.GetReservationId())
	if err != nil {
		return nil, err
	}
	if err := text("idempotency_key", req.GetIdempotencyKey()); err != nil {
		return nil, err
	}
	op := &ledger.Settle{Ref: ref, Key: req.GetIdempotencyKey(), Failed: req.GetFailed()}
	if req.GetSubject() != nil {
		s, err := subject(req.GetSubject())
		if err != nil {
			return nil, err
		}
		op.Subject = &s
	}
	if op.Usage, err = usage(req.GetUsage()); err != nil {
		return nil, err
	}
	return op.Seal(), nil
}

func settled(a ledger.Answer) *budgetv1.SettleResponse {
	return &budgetv1.SettleResponse{
		Charged:      protoAmounts(a.Amounts),
		Overrun:      protoAmounts(a.Overrun),
		Budgets:      budgetStates(a.States),
		PriceVersion: a.PriceVersion,
		Late:         a.Late,
	}
}

// Release implements budgetv1.LedgerServiceServer.
func (l *Ledger) Release(ctx context.Context, req *budgetv1.ReleaseRequest) (*budgetv1.ReleaseResponse, error) {
	op, err := releaseOf(ctx, req)
	if err != nil {
		return nil, err
	}
	a, err := l.lane.Do(ctx, op)
	if err != nil {
		return nil, err
	}
	return released(a), nil
}

func releaseOf(ctx context.Context, req *budgetv1.ReleaseRequest) (*ledger.Release, error) {
	ref, err := refOf(ctx, req.GetReservationId())
	if err != nil {
		return nil, err
	}
	if err := text("idempotency_key", req.GetIdempotencyKey()); err != nil {
		return nil, err
	}
	if strings.ContainsRune(req.GetReason(), 0) {
		return nil, fault.Field("reason", "contains a zero byte")
	}
	return &ledger.Release{Ref: ref, Key: req.GetIdempotencyKey(), Reason: req.GetReason()}, nil
}

func released(a ledger.Answer) *budgetv1.ReleaseResponse {
	return &budgetv1.ReleaseResponse{Released: protoAmounts(a.Amounts), Budgets: budgetStates(a.States)}
}

// Renew implements budgetv1.LedgerServiceServer.
func (l *Ledger) Renew(ctx context.Context, req *budgetv1.RenewRequest) (*budgetv1.RenewResponse, error) {
	op, err := renewOf(ctx, req)
	if err != nil {
		return nil, err
	}
	a, err := l.lane.Do(ctx, op)
	if err != nil {
		return nil, err
	}
	return renewed(a), nil
}

func renewOf(ctx context.Context, req *budgetv1.RenewRequest) (*ledger.Renew, error) {
	ref, err := refOf(ctx, req.GetReservationId())
	if err != nil {
		return nil, err
	}
	if err := text("idempotency_key", req.GetIdempotencyKey()); err != nil {
		return nil, err
	}
	return &ledger.Renew{Ref: ref, Key: req.GetIdempotencyKey(), TTL: req.GetTtl().AsDuration().Truncate(time.Millisecond)}, nil
}

func renewed(a ledger.Answer) *budgetv1.RenewResponse {
	return &budgetv1.RenewResponse{ExpiresAt: timestamppb.New(a.ExpiresAt)}
}

// GetReservation implements budgetv1.LedgerServiceServer.
func (l *Ledger) GetReservation(ctx context.Context, req *budgetv1.GetReservationRequest) (*budgetv1.GetReservationResponse, error) {
	ref, err := refOf(ctx, req.GetReservationId())
	if err != nil {
		return nil, err
	}
	s, err := l.reader.Reservation(ctx, ref)
	if err != nil {
		return nil, err
	}
	out := &budgetv1.GetReservationResponse{
		Hold: &governancev1.Hold{
			ReservationId: ref.ID.String(),
			Amounts:       protoAmounts(s.Reservation.Amounts),
			ExpiresAt:     timestamppb.New(s.Reservation.ExpiresAt),
			Budgets:       budgetStates(s.States),
		},
		State: budgetv1.ReservationState_RESERVATION_STATE_HELD,
	}
	if end := s.End.Resolution; end != nil {
		out.State = map[ledger.Kind]budgetv1.ReservationState{
			ledger.Settled:  budgetv1.ReservationState_RESERVATION_STATE_SETTLED,
			ledger.Released: budgetv1.ReservationState_RESERVATION_STATE_RELEASED,
			ledger.Expired:  budgetv1.ReservationState_RESERVATION_STATE_EXPIRED,
		}[end.Kind]
		if end.Kind == ledger.Settled {
			out.Charged = protoAmounts(end.Charged)
		}
	}
	if late := s.End.Late; late != nil {
		out.Charged = protoAmounts(late.Charged)
	}
	return out, nil
}
