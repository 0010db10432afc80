package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/books"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// BookStore is where the books are read.
type BookStore interface {
	Entries(ctx context.Context, tenant uuid.UUID, c books.Cursor, most int) ([]books.Line, error)
	Clock(ctx context.Context, tenant uuid.UUID) (time.Time, error)
	Recount(ctx context.Context, tenant uuid.UUID, account string) (windows int, diffs []ledger.Difference, err error)
	OpenHolds(ctx context.Context, q books.HoldQuery) ([]books.OpenHold, error)
}

// Books is the gRPC face of the books.
type Books struct {
	ledgerv1.UnimplementedBookkeepingServiceServer
	lane  Lane
	store BookStore
}

// NewBooks returns Books over lane and store.
func NewBooks(lane Lane, store BookStore) *Books { return &Books{lane: lane, store: store} }

const (
	pageOfEntries = 1000
	pageOfHolds   = 100
	// ended is how old an entry is whose transaction has certainly ended: longer
	// than a batch may take.
	ended = 15 * time.Second
)

// ExportEntries implements ledgerv1.BookkeepingServiceServer.
func (s *Books) ExportEntries(req *ledgerv1.ExportEntriesRequest, out grpc.ServerStreamingServer[ledgerv1.ExportEntriesResponse]) error {
	ctx := out.Context()
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return err
	}
	c, err := s.begin(ctx, who.Tenant, req)
	if err != nil {
		return err
	}
	for {
		lines, err := s.store.Entries(ctx, who.Tenant, c, pageOfEntries)
		if err != nil || len(lines) == 0 {
			return err
		}
		c = c.After(lines[len(lines)-1])
		page := &ledgerv1.ExportEntriesResponse{Cursor: c.Text(), Entries: make([]*ledgerv1.Entry, len(lines))}
		for i, l := range lines {
			page.Entries[i] = protoLine(l)
		}
		if err := out.Send(page); err != nil {
			return err
		}
		if len(lines) < pageOfEntries {
			return nil
		}
	}
}

func (s *Books) begin(ctx context.Context, tenant uuid.UUID, req *ledgerv1.ExportEntriesRequest) (books.Cursor, error) {
	if req.GetCursor() != "" {
		return books.ParseCursor(req.GetCursor())
	}
	if err := plain(map[string]string{"account": req.GetAccount()}); err != nil {
		return books.Cursor{}, err
	}
	from, err := moment("from", req.GetFrom())
	if err != nil {
		return books.Cursor{}, err
	}
	to, err := moment("to", req.GetTo())
	if err != nil {
		return books.Cursor{}, err
	}
	if from.IsZero() {
		return books.Cursor{}, fault.Field("from", "is required without a cursor")
	}
	now, err := s.store.Clock(ctx, tenant)
	if err != nil {
		return books.Cursor{}, err
	}
	if last := now.Add(-ended); to.IsZero() || to.After(last) {
		to = last
	}
	if !from.Before(to) {
		return books.Cursor{}, fault.Field("from", "must be before to, and %s or more ago", ended)
	}
	return books.Begin(from, to, req.GetAccount()), nil
}

func protoLine(l books.Line) *ledgerv1.Entry {
	out := &ledgerv1.Entry{
		OccurredAt: timestamppb.New(l.At), TransactionId: l.Transaction.String(), Line: int32(l.Entry.Line), Kind: l.Kind,
		BudgetId: l.Window.Budget, WindowStart: timestamppb.New(l.Window.StartTime()),
		FromAccount: string(l.From), ToAccount: string(l.To), Amounts: protoAmounts(l.Amounts),
	}
	if l.Reservation != uuid.Nil {
		out.ReservationId = l.Reservation.String()
	}
	return out
}

// CheckLedger implements ledgerv1.BookkeepingServiceServer.
func (s *Books) CheckLedger(ctx context.Context, req *ledgerv1.CheckLedgerRequest) (*ledgerv1.CheckLedgerResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	if err := plain(map[string]string{"account": req.GetAccount()}); err != nil {
		return nil, err
	}
	windows, diffs, err := s.store.Recount(ctx, who.Tenant, req.GetAccount())
	if err != nil {
		return nil, err
	}
	out := &ledgerv1.CheckLedgerResponse{Windows: int64(windows)}
	for _, d := range diffs {
		out.Differences = append(out.Differences, &ledgerv1.Difference{
			BudgetId: d.Window.Budget, WindowStart: timestamppb.New(d.Window.StartTime()), Account: string(d.Account), Unit: d.Unit.String(),
			Counter: d.Counter, Entries: d.Entries,
		})
	}
	return out, nil
}

// CorrectCharge implements ledgerv1.BookkeepingServiceServer.
func (s *Books) CorrectCharge(ctx context.Context, req *ledgerv1.CorrectChargeRequest) (*ledgerv1.CorrectChargeResponse, error) {
	who, err := identity.Allowed(ctx, writeScope)
	if err != nil {
		return nil, err
	}
	op := &ledger.Move{
		Tenant: who.Tenant, Key: req.GetIdempotencyKey(), Kind: ledger.ByHand, Cost: req.GetAmountNano(), Reason: req.GetReason(), Actor: who.Actor(),
	}
	if err := plain(map[string]string{"idempotency_key": op.Key, "reason": op.Reason, "budget_id": req.GetBudgetId()}); err != nil {
		return nil, err
	}
	named := 0
	for _, v := range []string{req.GetReservationId(), req.GetBudgetId(), req.GetWalletId()} {
		if v != "" {
			named++
		}
	}
	if named != 1 {
		return nil, fault.New(fault.Invalid, "name one of reservation_id, budget_id and wallet_id: it says what is corrected").WithReason("CORRECTION_TARGET")
	}
	switch {
	case req.GetReservationId() != "":
		ref, err := refOf(ctx, req.GetReservationId())
		if err != nil {
			return nil, err
		}
		op.Reservation = ref.ID
	case req.GetWalletId() != "":
		op.Account = catalog.WalletAccount(req.GetWalletId())
	default:
		op.Account = req.GetBudgetId()
	}
	a, err := s.lane.Do(ctx, op.Seal())
	if err != nil {
		return nil, err
	}
	return &ledgerv1.CorrectChargeResponse{CorrectionId: a.Movement.ID.String(), Budgets: budgetStates(a.States)}, nil
}

// ListHolds implements ledgerv1.BookkeepingServiceServer.
func (s *Books) ListHolds(ctx context.Context, req *ledgerv1.ListHoldsRequest) (*ledgerv1.ListHoldsResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	if err := plain(map[string]string{"budget_id": req.GetBudgetId()}); err != nil {
		return nil, err
	}
	q := books.HoldQuery{
		Tenant: who.Tenant, Account: req.GetBudgetId(), OlderThan: time.Duration(req.GetOlderThanSeconds()) * time.Second, Most: pageOfHolds,
		PastSweep: req.GetPastSweep(),
	}
	if req.GetPageSize() > 0 {
		q.Most = int(req.GetPageSize())
	}
	if token := req.GetPageToken(); token != "" {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
		if err == nil {
			err = json.Unmarshal(raw, &q.After)
		}
		if err != nil {
			return nil, fault.Field("page_token", "is not a token that this server gave").WithReason("PAGE_TOKEN_INVALID")
		}
	}
	holds, err := s.store.OpenHolds(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &ledgerv1.ListHoldsResponse{}
	for _, h := range holds {
		out.Holds = append(out.Holds, &ledgerv1.OpenHold{
			ReservationId: h.ID.String(), CreatedAt: timestamppb.New(h.CreatedAt), ExpiresAt: timestamppb.New(h.ExpiresAt),
			Amounts: protoAmounts(h.Amounts), AgentId: h.Agent, EnvelopeId: h.Envelope, Model: h.Model, BudgetIds: h.Accounts,
		})
	}
	if len(holds) == q.Most {
		last := holds[len(holds)-1]
		raw, err := json.Marshal(books.HoldCursor{Expiry: last.ExpiresAt, ID: last.ID})
		if err != nil {
			return nil, err
		}
		out.NextPageToken = base64.RawURLEncoding.EncodeToString(raw)
	}
	return out, nil
}

// ReleaseHold implements ledgerv1.BookkeepingServiceServer.
func (s *Books) ReleaseHold(ctx context.Context, req *ledgerv1.ReleaseHoldRequest) (*ledgerv1.ReleaseHoldResponse, error) {
	who, err := identity.Allowed(ctx, writeScope)
	if err != nil {
		return nil, err
	}
	ref, err := refOf(ctx, req.GetReservationId())
	if err != nil {
		return nil, err
	}
	if err := plain(map[string]string{"reason": req.GetReason()}); err != nil {
		return nil, err
	}
	a, err := s.lane.Do(ctx, &ledger.Release{Ref: ref, Key: "by hand", Reason: req.GetReason(), Actor: who.Actor()})
	if err != nil {
		return nil, err
	}
	return &ledgerv1.ReleaseHoldResponse{Released: protoAmounts(a.Amounts), Budgets: budgetStates(a.States)}, nil
}
