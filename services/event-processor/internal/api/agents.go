package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/agents"
)

// GetAgentMetrics implements agentv1.AgentServiceServer. Uptime is not measured
// and stays unset. An agent that never did anything has no periods.
func (s *Agents) GetAgentMetrics(ctx context.Context, req *agentv1.GetAgentMetricsRequest) (*agentv1.GetAgentMetricsResponse, error) {
	tenant, err := caller(ctx, readAgents, "")
	if err != nil {
		return nil, err
	}
	p, err := agents.Named(req.GetPeriod())
	if err != nil {
		return nil, err
	}
	from, err := at(req.GetStartTime(), "start_time")
	if err != nil {
		return nil, err
	}
	to, err := at(req.GetEndTime(), "end_time")
	if err != nil {
		return nil, err
	}
	ended, current, err := agents.Metrics(ctx, s.source, tenant, req.GetAgentId(), p, from, to, time.Now())
	if err != nil {
		return nil, err
	}
	resp := &agentv1.GetAgentMetricsResponse{Current: metrics(tenant, req.GetAgentId(), p, current)}
	for _, r := range ended {
		resp.Metrics = append(resp.Metrics, metrics(tenant, req.GetAgentId(), p, r))
	}
	return resp, nil
}

func metrics(tenant uuid.UUID, agent string, p agents.Period, r agents.Report) *agentv1.AgentMetrics {
	return &agentv1.AgentMetrics{
		AgentId: agent, TenantId: tenant.String(), Period: p.Name, Timestamp: timestamp(r.Start), LastSeenAt: timestamp(r.LastSeen),
		RequestCount: small(r.Requests), ErrorCount: small(r.Errors), ViolationCount: small(r.Violations),
		TotalCost: r.Cost.USD(), InputTokens: small(r.Input), OutputTokens: small(r.Output),
		AvgLatencyMs: ms(r.Latency.Mean), P50LatencyMs: ms(r.Latency.P50), P95LatencyMs: ms(r.Latency.P95), P99LatencyMs: ms(r.Latency.P99),
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
