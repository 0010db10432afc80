package web

import (
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/door"
)

// costRequest is a call of the budget side door.
type costRequest struct {
	Operation string  `json:"operation"` // check or record
	TenantID  string  `json:"tenant_id"`
	AgentID   string  `json:"agent_id"`
	Amount    float64 `json:"amount"` // USD
}

// recordCost is the budget side door: check whether an agent may spend an
// amount, or record that it did. What is recorded is charged in full whatever
// the budgets say; allowed then says whether there is anything left.
func (f *front) recordCost(w http.ResponseWriter, r *http.Request) {
	ctx, err := f.admit(r, door.RecordCost)
	if err == nil {
		var allowed bool
		if allowed, err = f.cost(r.WithContext(ctx)); err == nil {
			answer(w, http.StatusOK, map[string]bool{"allowed": allowed})
			return
		}
	}
	f.problem(w, r, door.RecordCost, err)
}

func (f *front) cost(r *http.Request) (bool, error) {
	ctx := r.Context()
	who, err := identity.From(ctx)
	if err != nil {
		return false, err
	}
	in, amount, err := f.readCost(r, who)
	if err != nil {
		return false, err
	}
	subject := &budgetv1.Subject{Team: who.Team, AgentId: in.AgentID, UserId: who.UserID, ApiKeyId: who.KeyID}
	if in.Operation == "check" {
		if amount == 0 {
			return true, nil
		}
		resp, err := f.o.Ledger.Reserve(ctx, &budgetv1.ReserveRequest{
			ReservationId: uuid.NewString(), Subject: subject, Amounts: &governancev1.Amounts{CostNano: int64(amount)}, DryRun: true,
		})
		return resp.GetGranted(), err
	}
	// A caller that repeats itself says so by the header; without one every call
	// is a charge of its own.
	id := uuid.New()
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		id = uuid.NewSHA1(who.Tenant, []byte("cost/record\x00"+who.KeyID+"\x00"+key))
	}
	resp, err := f.o.Ledger.Settle(ctx, &budgetv1.SettleRequest{
		ReservationId: id.String(), Subject: subject, IdempotencyKey: "gw:cost:" + id.String(),
		Usage: &governancev1.Usage{CostUsd: proto.Float64(in.Amount)},
	})
	if err != nil {
		return false, err
	}
	for _, b := range resp.GetBudgets() {
		if b.GetUnit() == "cost_usd" && b.GetRemaining() <= 0 {
			return false, nil
		}
	}
	return true, nil
}

func (f *front) readCost(r *http.Request, who identity.Principal) (costRequest, money.Nano, error) {
	var in costRequest
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return in, 0, f.unreadable(r, err.Error())
	}
	if err := decodeStrict(snake(body), &in); err != nil {
		return in, 0, err
	}
	if in.TenantID != "" && !strings.EqualFold(in.TenantID, who.Tenant.String()) {
		return in, 0, fault.New(fault.Denied, "tenant_id is not this credential's tenant").
			WithReason("TENANT_MISMATCH").WithViolation("tenant_id", "must be empty or the credential's own tenant")
	}
	if who.AgentID != "" && in.AgentID != "" && in.AgentID != who.AgentID {
		return in, 0, fault.New(fault.Denied, "this credential acts as agent %s only", who.AgentID).WithReason("AGENT_MISMATCH")
	}
	if in.AgentID == "" {
		in.AgentID = who.AgentID
	}
	if in.Operation != "check" && in.Operation != "record" {
		return in, 0, fault.Field("operation", "must be check or record")
	}
	if len(in.AgentID) > 256 || strings.ContainsRune(in.AgentID, 0) {
		return in, 0, fault.Field("agent_id", "is not a name of at most 256 characters")
	}
	amount, err := money.FromUSD(in.Amount)
	if err != nil {
		return in, 0, fault.Field("amount", "is not an amount of money: %v", err)
	}
	return in, amount, nil
}
