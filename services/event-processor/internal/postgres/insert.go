package postgres

import (
	"context"

	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

func (b *batch) insert(ctx context.Context) error {
	var p eventsdb.InsertEventsParams
	for i, f := range b.facts {
		p.TenantIds, p.EventIds = append(p.TenantIds, f.Tenant), append(p.EventIds, f.ID)
		p.StreamSequences, p.StoredAt = append(p.StreamSequences, b.positions[i]), append(p.StoredAt, b.storedAt[f.Tenant])
		p.ExecutionKeys, p.SequenceNumbers = append(p.ExecutionKeys, f.Key()), append(p.SequenceNumbers, b.sequences[i])
		p.Types, p.Origins, p.Writers = append(p.Types, f.Type), append(p.Origins, origin(f)), append(p.Writers, f.Writer)
		p.OccurredAt = append(p.OccurredAt, f.OccurredAt)
		p.ExecutionIds, p.EnvelopeIds = append(p.ExecutionIds, f.ExecutionID), append(p.EnvelopeIds, f.EnvelopeID)
		p.WorkflowIds = append(p.WorkflowIds, f.WorkflowID)
		p.Actors, p.Actions, p.Resources = append(p.Actors, f.Actor), append(p.Actions, f.Action), append(p.Resources, f.Resource)
		p.Decisions, p.PolicyVersions = append(p.Decisions, f.Decision), append(p.PolicyVersions, f.PolicyVersion)
		p.AgentIds, p.Teams = append(p.AgentIds, f.AgentID), append(p.Teams, f.Team)
		p.ApiKeyIds, p.UserIds = append(p.ApiKeyIds, f.APIKeyID), append(p.UserIds, f.UserID)
		p.Payloads, p.Labels = append(p.Payloads, f.Payload), append(p.Labels, f.Labels)
		p.TraceIds, p.SpanIds = append(p.TraceIds, f.TraceID), append(p.SpanIds, f.SpanID)
		cost, latency := journal.Cost{}, journal.Latency{}
		if f.Cost != nil {
			cost = *f.Cost
		}
		if f.Latency != nil {
			latency = *f.Latency
		}
		p.Models, p.CostNanos = append(p.Models, cost.Model), append(p.CostNanos, cost.Nano)
		p.InputTokens, p.OutputTokens = append(p.InputTokens, cost.Input), append(p.OutputTokens, cost.Output)
		p.LatenciesUs, p.Sizes = append(p.LatenciesUs, latency.Total.Microseconds()), append(p.Sizes, int32(f.Size))
	}
	return b.q.InsertEvents(ctx, p)
}

// The numbers of fulcrum.bus.v1.Origin.
func origin(f journal.Fact) int16 {
	if f.System {
		return 1
	}
	return 2
}
