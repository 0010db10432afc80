package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

func (b *batch) costs(ctx context.Context) error {
	var p eventsdb.IngestCostsParams
	for _, f := range b.facts {
		c := f.Charged()
		if c == nil {
			continue
		}
		p.TenantIds, p.EventIds = append(p.TenantIds, f.Tenant), append(p.EventIds, f.ID)
		p.Ats = append(p.Ats, journal.MeasuredAt(f, b.storedAt[f.Tenant]))
		p.AgentIds, p.Teams = append(p.AgentIds, f.AgentID), append(p.Teams, f.Team)
		p.UserIds, p.ApiKeyIds = append(p.UserIds, f.UserID), append(p.ApiKeyIds, f.APIKeyID)
		p.WorkflowIds, p.EnvelopeIds = append(p.WorkflowIds, f.WorkflowID), append(p.EnvelopeIds, f.EnvelopeID)
		p.Models, p.CostNanos = append(p.Models, c.Model), append(p.CostNanos, c.Nano)
		p.InputTokens, p.OutputTokens = append(p.InputTokens, c.Input), append(p.OutputTokens, c.Output)
		p.CachedTokens, p.ReasoningTokens = append(p.CachedTokens, c.Cached), append(p.ReasoningTokens, c.Reasoning)
		p.LlmCalls, p.ToolCalls, p.Seconds = append(p.LlmCalls, c.LLMCalls), append(p.ToolCalls, c.ToolCalls), append(p.Seconds, c.Seconds)
		p.PriceVersions, p.ReservationIds = append(p.PriceVersions, c.PriceVersion), append(p.ReservationIds, c.Reservation)
	}
	if len(p.TenantIds) == 0 {
		return nil
	}
	return b.q.IngestCosts(ctx, p)
}

func (b *batch) decisions(ctx context.Context) error {
	var p eventsdb.IngestDecisionsParams
	for _, f := range b.facts {
		l := f.Timed()
		if l == nil {
			continue
		}
		p.TenantIds, p.EventIds = append(p.TenantIds, f.Tenant), append(p.EventIds, f.ID)
		p.Ats = append(p.Ats, journal.MeasuredAt(f, b.storedAt[f.Tenant]))
		p.AgentIds, p.Actions, p.Decisions = append(p.AgentIds, f.AgentID), append(p.Actions, f.Action), append(p.Decisions, f.Decision)
		p.TotalsUs = append(p.TotalsUs, l.Total.Microseconds())
		p.EvaluatesUs, p.ReservesUs = append(p.EvaluatesUs, l.Evaluate.Microseconds()), append(p.ReservesUs, l.Reserve.Microseconds())
	}
	if len(p.TenantIds) == 0 {
		return nil
	}
	return b.q.IngestDecisions(ctx, p)
}

func (b *batch) counters(ctx context.Context) error {
	var p eventsdb.IngestCountersParams
	for _, c := range journal.Count(b.facts, func(t uuid.UUID) time.Time { return b.storedAt[t] }) {
		p.TenantIds, p.AgentIds = append(p.TenantIds, c.Tenant), append(p.AgentIds, c.Agent)
		p.Minutes, p.LastAts = append(p.Minutes, c.Minute), append(p.LastAts, c.Last)
		p.Events, p.Errors = append(p.Events, c.Events), append(p.Errors, c.Errors)
		p.Decisions, p.Denials = append(p.Decisions, c.Decisions), append(p.Denials, c.Denials)
		p.CostNanos, p.InputTokens, p.OutputTokens = append(p.CostNanos, c.CostNano), append(p.InputTokens, c.Input), append(p.OutputTokens, c.Output)
	}
	return b.q.IngestCounters(ctx, p)
}
