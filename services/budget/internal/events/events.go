// Package events says what the ledger's facts look like to the rest of Fulcrum.
package events

import (
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

const writer = "budget"

// Encode turns a fact into an event for the outbox.
func Encode(e ledger.Event) *busv1.Event {
	out := &busv1.Event{
		TenantId:   e.Ref.Tenant.String(),
		Stream:     busv1.Stream_STREAM_EVENTS,
		Type:       string(e.Type),
		Origin:     busv1.Origin_ORIGIN_SYSTEM,
		Writer:     writer,
		OccurredAt: timestamppb.New(e.At),
		Actor:      "service:" + writer,
		EnvelopeId: e.Subject.EnvelopeID,
		WorkflowId: e.Subject.WorkflowID,
		AgentId:    e.Subject.AgentID,
		Team:       e.Subject.Team,
		ApiKeyId:   e.Subject.APIKeyID,
		UserId:     e.Subject.UserID,
	}
	switch e.Type {
	case ledger.CostRecorded:
		out.Action, out.Resource = "settle", "reservation:"+e.Ref.ID.String()
		out.Cost = cost(e)
		if e.Late || e.Failed {
			out.Payload = payload(map[string]any{"late": e.Late, "failed": e.Failed})
		}
	case ledger.CostCorrected:
		c := e.Correction
		out.Action, out.Resource = "correct", "reservation:"+e.Ref.ID.String()
		out.Cost = difference(e)
		out.Payload = payload(map[string]any{"rerate_id": c.Rerate.String(), "old_usd": c.Old.USD(), "new_usd": c.New.USD()})
	case ledger.BudgetOverrun:
		out.Action, out.Resource = "settle", "reservation:"+e.Ref.ID.String()
		out.Payload = payload(map[string]any{
			"reservation_id": e.Ref.ID.String(), "model": e.Model, "late": e.Late,
			"held": amounts(e.Held), "charged": amounts(e.Charged), "overrun": amounts(e.Overrun),
		})
	case ledger.HoldExpired:
		out.Action, out.Resource = "expire", "reservation:"+e.Ref.ID.String()
		out.Payload = payload(map[string]any{"reservation_id": e.Ref.ID.String(), "released": amounts(e.Held)})
	case ledger.HoldReleased:
		out.Action, out.Resource, out.Actor = "release", "reservation:"+e.Ref.ID.String(), e.Actor
		out.Payload = payload(map[string]any{"reservation_id": e.Ref.ID.String(), "released": amounts(e.Held), "reason": e.Reason})
	case ledger.WalletLow, ledger.WalletDepleted, ledger.WalletOverdrawn:
		id, _ := catalog.OfWallet(e.Budget.Budget)
		out.Action, out.Resource, out.Payload = "cross_threshold", "wallet:"+id, wallet(e, id)
	case ledger.WalletMoved, ledger.ChargeCorrected:
		out.Action, out.Resource, out.Actor = string(e.Movement.Kind), "movement:"+e.Movement.ID.String(), e.Actor
		out.Payload = moved(e.Movement)
		if e.Correction != nil {
			out.Cost = difference(e)
		}
	default:
		out.Action, out.Resource = "cross_threshold", "budget:"+e.Budget.Budget
		out.Payload = crossing(e)
	}
	return out
}

func cost(e ledger.Event) *busv1.CostFact {
	return &busv1.CostFact{
		Model:           e.Model,
		CostNano:        e.Charged[amount.Cost],
		InputTokens:     e.Charged[amount.InputTokens],
		OutputTokens:    e.Charged[amount.OutputTokens],
		CachedTokens:    e.Cached,
		ReasoningTokens: e.Reasoning,
		LlmCalls:        e.Charged[amount.LLMCalls],
		ToolCalls:       e.Charged[amount.ToolCalls],
		Seconds:         e.Charged[amount.Seconds],
		PriceVersion:    e.PriceVersion,
		ReservationId:   e.Ref.ID.String(),
	}
}

// difference is what a correction changes of the cost of a charge, so that
// whoever adds up costs goes on being right.
func difference(e ledger.Event) *busv1.CostFact {
	c := e.Correction
	return &busv1.CostFact{Model: c.Model, CostNano: int64(c.New - c.Old), PriceVersion: c.PriceVersion, ReservationId: e.Ref.ID.String()}
}

func crossing(e ledger.Event) *structpb.Struct {
	b := e.Budget
	m := map[string]any{
		"budget_id": b.Budget, "budget_name": b.Name, "unit": b.Unit.String(), "status": string(ledger.StatusAt(e.Threshold)),
		"threshold_percent": float64(e.Threshold) / 100,
		"limit":             b.Unit.Shown(b.Limit), "spent": b.Unit.Shown(b.Spent), "held": b.Unit.Shown(b.Held),
		"window_start": e.Window.StartTime().Format("2006-01-02T15:04:05Z07:00"),
	}
	if !b.ResetsAt.IsZero() {
		m["resets_at"] = b.ResetsAt.Format("2006-01-02T15:04:05Z07:00")
	}
	return payload(m)
}

func wallet(e ledger.Event, id string) *structpb.Struct {
	b := e.Budget
	m := map[string]any{
		"wallet_id": id, "wallet_name": b.Name, "balance": b.Unit.Shown(b.Limit - b.Spent), "held": b.Unit.Shown(b.Held),
	}
	switch e.Type {
	case ledger.WalletOverdrawn:
		m["overdrawn_by"], m["reservation_id"] = b.Unit.Shown(e.Debt), e.Ref.ID.String()
	default:
		m["low_balance"] = money.Nano(catalog.LowBalance(e.Threshold)).USD()
	}
	return payload(m)
}

func moved(m *ledger.Movement) *structpb.Struct {
	facts := map[string]any{
		"movement_id": m.ID.String(), "kind": string(m.Kind), "amount_usd": money.Nano(m.Cost).USD(), "reference": m.Reference, "reason": m.Reason,
	}
	if m.Reservation != uuid.Nil {
		facts["reservation_id"] = m.Reservation.String()
	} else if id, ok := catalog.OfWallet(m.Account); ok {
		facts["wallet_id"], facts["balance"] = id, money.Nano(m.Balance).USD()
	} else {
		facts["budget_id"] = m.Account
	}
	return payload(facts)
}

// amounts shows what is not zero.
func amounts(a amount.Amounts) map[string]any {
	m := make(map[string]any)
	for u, n := range a {
		if n != 0 {
			m[amount.Unit(u).String()] = amount.Unit(u).Shown(n)
		}
	}
	return m
}

func payload(m map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(m)
	if err != nil {
		panic(fmt.Sprintf("events: payload: %v", err)) // only of types this file chose
	}
	return s
}
