package api

import (
	"context"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/executions"
)

// Executions is what the published CostService counts of executions. What they
// cost is the budget service's.
type Executions struct {
	costv1.UnimplementedCostServiceServer
	source executions.Source
}

// NewExecutions returns Executions over s.
func NewExecutions(s executions.Source) *Executions { return &Executions{source: s} }

var groups = map[costv1.SpendGroupBy]string{
	costv1.SpendGroupBy_SPEND_GROUP_BY_DAY:      "day",
	costv1.SpendGroupBy_SPEND_GROUP_BY_WEEK:     "week",
	costv1.SpendGroupBy_SPEND_GROUP_BY_MONTH:    "month",
	costv1.SpendGroupBy_SPEND_GROUP_BY_WORKFLOW: "workflow",
	costv1.SpendGroupBy_SPEND_GROUP_BY_TEAM:     "team",
	costv1.SpendGroupBy_SPEND_GROUP_BY_AGENT:    "agent",
	costv1.SpendGroupBy_SPEND_GROUP_BY_API_KEY:  "key",
}

// GetSpendSummary implements costv1.CostServiceServer for the executions alone.
// The quarter of an hour in which the time ends is in. An execution has no
// model: by model there is the sum only. Without a zone it is UTC.
func (s *Executions) GetSpendSummary(ctx context.Context, req *costv1.GetSpendSummaryRequest) (*costv1.GetSpendSummaryResponse, error) {
	tenant, err := caller(ctx, readCosts, req.GetTenantId())
	if err != nil {
		return nil, err
	}
	q := executions.Query{Workflow: req.GetWorkflowId(), GroupBy: groups[req.GetGroupBy()], Zone: time.UTC}
	if q.From, err = at(req.GetStartTime(), "start_time"); err != nil {
		return nil, err
	}
	if q.Until, err = at(req.GetEndTime(), "end_time"); err != nil {
		return nil, err
	}
	if q.Until.IsZero() {
		q.Until = time.Now()
	}
	if name := req.GetTimeZone(); name != "" {
		if q.Zone, err = time.LoadLocation(name); err != nil || name == "Local" {
			return nil, fault.Field("time_zone", "%.64q is not an IANA time zone such as Europe/Berlin", name)
		}
	}
	counts, err := s.source.Executions(ctx, tenant, q)
	if err != nil {
		return nil, err
	}
	var all executions.Count
	out := &costv1.GetSpendSummaryResponse{TimeZone: q.Zone.String()}
	for _, c := range counts {
		all = all.Plus(c)
		if q.GroupBy != "" {
			out.GroupedSummaries = append(out.GroupedSummaries, &costv1.GroupedSpendSummary{GroupKey: c.Group, Summary: executed(c, req)})
		}
	}
	out.Summary = executed(all, req)
	return out, nil
}

func executed(c executions.Count, req *costv1.GetSpendSummaryRequest) *costv1.SpendSummary {
	return &costv1.SpendSummary{
		TotalExecutions: small(c.Opened), CompletedExecutions: small(c.Completed), FailedExecutions: small(c.Failed), TerminatedExecutions: small(c.Terminated),
		PeriodStart: req.GetStartTime(), PeriodEnd: req.GetEndTime(),
	}
}
