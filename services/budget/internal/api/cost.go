package api

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/spend"
)

// Accounts is what the summaries are read from.
type Accounts interface {
	spend.Past
	Fresh(ctx context.Context, tenant uuid.UUID) (*catalog.Catalog, time.Time, error)
	Status(ctx context.Context, tenant uuid.UUID, id string) (*catalog.Budget, *ledger.Window, time.Time, error)
	Standings(ctx context.Context, cat *catalog.Catalog, now time.Time, budgets []*catalog.Budget) ([]*ledger.Window, error)
	WindowModels(ctx context.Context, w *ledger.Window) ([]spend.Line, error)
	Notices(ctx context.Context, tenant uuid.UUID, windows []*ledger.Window) (map[ledger.WindowKey]map[int32]time.Time, error)
	EnvelopeCosts(ctx context.Context, tenant uuid.UUID, envelope string) ([]spend.Line, error)
	Spend(ctx context.Context, q spend.Query) ([]spend.Line, error)
}

// Costs answers the part of CostService that is about what was spent.
// Budgets themselves are the control plane's.
type Costs struct {
	costv1.UnimplementedCostServiceServer
	accounts Accounts
}

// NewCosts returns a Costs over accounts.
func NewCosts(accounts Accounts) *Costs { return &Costs{accounts: accounts} }

const scope = "cost:read"

// GetCostSummary implements costv1.CostServiceServer. An envelope that was
// never charged has cost nothing.
func (c *Costs) GetCostSummary(ctx context.Context, req *costv1.GetCostSummaryRequest) (*costv1.GetCostSummaryResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	lines, err := c.accounts.EnvelopeCosts(ctx, who.Tenant, req.GetEnvelopeId())
	if err != nil {
		return nil, err
	}
	sum := add(lines)
	return &costv1.GetCostSummaryResponse{CostSummary: &envelopev1.CostSummary{
		TotalInputTokens:  sum.Amounts[amount.InputTokens],
		TotalOutputTokens: sum.Amounts[amount.OutputTokens],
		TotalCostUsd:      money.Nano(sum.Amounts[amount.Cost]).USD(),
		LlmCallCount:      int32of(sum.Amounts[amount.LLMCalls]),
		ToolCallCount:     int32of(sum.Amounts[amount.ToolCalls]),
		ModelCosts:        modelCosts(lines),
	}}, nil
}

var groups = map[costv1.SpendGroupBy]string{
	costv1.SpendGroupBy_SPEND_GROUP_BY_MODEL:    "model",
	costv1.SpendGroupBy_SPEND_GROUP_BY_DAY:      "day",
	costv1.SpendGroupBy_SPEND_GROUP_BY_WEEK:     "week",
	costv1.SpendGroupBy_SPEND_GROUP_BY_MONTH:    "month",
	costv1.SpendGroupBy_SPEND_GROUP_BY_WORKFLOW: "workflow",
	costv1.SpendGroupBy_SPEND_GROUP_BY_TEAM:     "team",
	costv1.SpendGroupBy_SPEND_GROUP_BY_AGENT:    "agent",
	costv1.SpendGroupBy_SPEND_GROUP_BY_API_KEY:  "key",
}

// GetSpendSummary implements costv1.CostServiceServer, but for the executions,
// which the event processor counts. Whole hours of the tenant's clock are added
// up: the one in which the time begins is in, the one in which it ends too, and
// the answer's period says so. Without a start it is the last 30 days.
func (c *Costs) GetSpendSummary(ctx context.Context, req *costv1.GetSpendSummaryRequest) (*costv1.GetSpendSummaryResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	cat, now, err := c.accounts.Fresh(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	zone, err := zoneOf(req.GetTimeZone(), cat.Zone)
	if err != nil {
		return nil, err
	}
	whole, err := hours(req, cat.Zone, now)
	if err != nil {
		return nil, err
	}
	by := req.GetGroupBy()
	lines, err := c.accounts.Spend(ctx, spend.Query{
		Tenant: who.Tenant, Workflow: req.GetWorkflowId(), From: whole.Start, Until: whole.End, GroupBy: groups[by], Zone: zone,
	})
	if err != nil {
		return nil, err
	}
	out := &costv1.GetSpendSummaryResponse{Summary: total(lines, whole), TimeZone: zone.String()}
	if by == costv1.SpendGroupBy_SPEND_GROUP_BY_UNSPECIFIED {
		return out, nil
	}
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && lines[n].Group == lines[0].Group {
			n++
		}
		out.GroupedSummaries = append(out.GroupedSummaries, &costv1.GroupedSpendSummary{
			GroupKey: lines[0].Group, Summary: total(lines[:n], within(whole, by, lines[0].Group, zone)),
		})
		lines = lines[n:]
	}
	return out, nil
}

// hours is the time that a request asks for in whole hours of the zone's clock.
// Nothing was charged after now: what ends later is exact.
func hours(req *costv1.GetSpendSummaryRequest, zone *time.Location, now time.Time) (calendar.Window, error) {
	w := calendar.Window{End: now}
	for _, bound := range []struct {
		field string
		in    *timestamppb.Timestamp
		to    *time.Time
	}{{"end_time", req.GetEndTime(), &w.End}, {"start_time", req.GetStartTime(), &w.Start}} {
		if bound.in == nil {
			continue
		}
		if err := bound.in.CheckValid(); err != nil {
			return w, fault.Field(bound.field, "is not a time")
		}
		*bound.to = bound.in.AsTime()
	}
	if req.GetStartTime() == nil {
		w.Start = w.End.AddDate(0, 0, -30)
	}
	clock := calendar.Period{Kind: calendar.Hourly, Zone: zone}
	empty := !w.Start.Before(w.End)
	if w.Start = clock.At(w.Start).Start; empty {
		w.End = w.Start
	}
	if last := clock.At(w.End.Add(-time.Nanosecond)); w.End.After(w.Start) && w.End.Before(now) {
		w.End = last.End
		if w.End.After(now) {
			w.End = now
		}
	}
	return w, nil
}

var calendars = map[costv1.SpendGroupBy]struct {
	kind   calendar.Kind
	layout string
}{
	costv1.SpendGroupBy_SPEND_GROUP_BY_DAY:   {calendar.Daily, time.DateOnly},
	costv1.SpendGroupBy_SPEND_GROUP_BY_WEEK:  {calendar.Weekly, time.DateOnly},
	costv1.SpendGroupBy_SPEND_GROUP_BY_MONTH: {calendar.Monthly, "2006-01"},
}

// within is the part of whole that a group is of: its day, week or month, or
// all of it.
func within(whole calendar.Window, by costv1.SpendGroupBy, key string, zone *time.Location) calendar.Window {
	c, ok := calendars[by]
	if !ok {
		return whole
	}
	day, err := time.Parse(c.layout, key)
	if err != nil {
		return whole
	}
	// Noon is on that date in every zone, whatever its clock does at midnight.
	w := calendar.Period{Kind: c.kind, Zone: zone}.At(time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, zone))
	if w.Start.Before(whole.Start) {
		w.Start = whole.Start
	}
	if w.End.After(whole.End) {
		w.End = whole.End
	}
	return w
}

func zoneOf(name string, tenants *time.Location) (*time.Location, error) {
	if name == "" {
		return tenants, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fault.Field("time_zone", "%.64q is not an IANA time zone such as Europe/Berlin", name)
	}
	return zone, nil
}

func add(lines []spend.Line) (sum spend.Line) {
	for _, l := range lines {
		sum.Amounts, _ = sum.Amounts.Plus(l.Amounts)
		sum.Charges += l.Charges
		sum.Failures += l.Failures
	}
	return sum
}

func total(lines []spend.Line, of calendar.Window) *costv1.SpendSummary {
	out := summary(add(lines))
	out.ModelCosts = modelCosts(lines)
	out.PeriodStart, out.PeriodEnd = timestamppb.New(of.Start), timestamppb.New(of.End)
	return out
}

func summary(l spend.Line) *costv1.SpendSummary {
	return &costv1.SpendSummary{
		TotalTokens:               l.Amounts[amount.TotalTokens],
		TotalInputTokens:          l.Amounts[amount.InputTokens],
		TotalOutputTokens:         l.Amounts[amount.OutputTokens],
		TotalCostUsd:              money.Nano(l.Amounts[amount.Cost]).USD(),
		TotalLlmCalls:             int32of(l.Amounts[amount.LLMCalls]),
		TotalToolCalls:            int32of(l.Amounts[amount.ToolCalls]),
		TotalExecutionTimeSeconds: l.Amounts[amount.Seconds],
	}
}

// modelCosts adds up lines by model, in the order of the models. Charges without
// a model are in the sums only.
func modelCosts(lines []spend.Line) (out []*envelopev1.ModelCost) {
	at := make(map[string]amount.Amounts)
	for _, l := range lines {
		if l.Model != "" {
			at[l.Model], _ = at[l.Model].Plus(l.Amounts)
		}
	}
	for _, model := range slices.Sorted(maps.Keys(at)) {
		a := at[model]
		out = append(out, &envelopev1.ModelCost{
			ModelId: model, InputTokens: a[amount.InputTokens], OutputTokens: a[amount.OutputTokens],
			CostUsd: money.Nano(a[amount.Cost]).USD(), CallCount: int32of(a[amount.LLMCalls]),
		})
	}
	return out
}

// int32of is n as the published contract counts it.
func int32of(n int64) int32 { return int32(min(max(n, 0), math.MaxInt32)) }
