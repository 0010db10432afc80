package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/agents"
)

// Reports implements agents.Source: counters from the rollups, percentiles from
// the decisions themselves.
func (s *Store) Reports(ctx context.Context, tenant uuid.UUID, agent string, p agents.Period, from, to time.Time) ([]agents.Report, error) {
	var out []agents.Report
	err := s.filtered(ctx, tenant, func(ctx context.Context, q *eventsdb.Queries) error {
		counted, err := counted(ctx, q, tenant, agent, p, from, to)
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		timed, err := q.AgentLatency(ctx, eventsdb.AgentLatencyParams{
			TenantID: tenant, AgentID: agent, Width: fmt.Sprintf("%d seconds", int(p.Width.Seconds())), FromTime: from, ToTime: to})
		if err != nil {
			return fmt.Errorf("read latencies: %w", err)
		}
		out = merge(counted, timed)
		return nil
	})
	return out, err
}

func counted(ctx context.Context, q *eventsdb.Queries, tenant uuid.UUID, agent string, p agents.Period, from, to time.Time) (out []eventsdb.AgentHoursRow, err error) {
	switch p {
	case agents.Hourly:
		return q.AgentHours(ctx, eventsdb.AgentHoursParams{TenantID: tenant, AgentID: agent, FromTime: from, ToTime: to})
	case agents.Daily:
		rows, err := q.AgentDays(ctx, eventsdb.AgentDaysParams{TenantID: tenant, AgentID: agent, FromTime: from, ToTime: to})
		for _, r := range rows {
			out = append(out, eventsdb.AgentHoursRow(r))
		}
		return out, err
	}
	rows, err := q.AgentMinutes(ctx, eventsdb.AgentMinutesParams{TenantID: tenant, AgentID: agent, FromTime: from, ToTime: to})
	for _, r := range rows {
		out = append(out, eventsdb.AgentHoursRow(r))
	}
	return out, err
}

func merge(counted []eventsdb.AgentHoursRow, timed []eventsdb.AgentLatencyRow) []agents.Report {
	byStart := map[int64]*agents.Report{}
	of := func(start time.Time) *agents.Report {
		r := byStart[start.Unix()]
		if r == nil {
			r = &agents.Report{Start: start}
			byStart[start.Unix()] = r
		}
		return r
	}
	for _, c := range counted {
		r := of(c.Period)
		r.Requests, r.Errors, r.Violations = c.Decisions, c.Errors, c.Denials
		r.Cost, r.Input, r.Output = money.Nano(c.CostNano), c.InputTokens, c.OutputTokens
		r.LastSeen = c.LastAt
	}
	for _, t := range timed {
		r := of(t.Period)
		r.Latency = agents.Latency{Mean: micros(t.AvgUs), P50: micros(t.P50Us), P95: micros(t.P95Us), P99: micros(t.P99Us)}
		r.LastSeen = later(r.LastSeen, t.LastAt)
	}
	out := make([]agents.Report, 0, len(byStart))
	for _, r := range byStart {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b agents.Report) int { return a.Start.Compare(b.Start) })
	return out
}

func micros(us float64) time.Duration { return time.Duration(us * float64(time.Microsecond)) }
