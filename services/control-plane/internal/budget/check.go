package budget

import (
	"fmt"
	"math"
	"regexp"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/zone"
)

// maxCustomSeconds keeps windows inside what calendars and clocks can hold.
const maxCustomSeconds = 10 * 366 * 24 * 60 * 60

var keyID = regexp.MustCompile(`^[0-9a-z]{12}$`)

type report func(field, format string, a ...any)

// Check says everything that is wrong with a budget.
func Check(b *costv1.Budget) error {
	var wrong []fault.Violation
	bad := func(field, format string, a ...any) {
		wrong = append(wrong, fault.Violation{Field: "budget." + field, Description: fmt.Sprintf(format, a...)})
	}
	checkLimits(b.GetLimits(), bad)
	checkPeriod(b.GetPeriod(), bad)
	checkThresholds(b.GetThresholds(), bad)
	checkScope(b.GetScope(), bad)
	if !zone.Valid(b.GetTimeZone()) {
		bad("time_zone", "%.64q is not an IANA time zone such as Europe/Berlin", b.GetTimeZone())
	}
	if _, ok := costv1.BudgetMode_name[int32(b.GetMode())]; !ok {
		bad("mode", "%d is not a mode", b.GetMode())
	}
	if len(wrong) > 0 {
		return fault.Fields(wrong...).WithReason("BUDGET_INVALID")
	}
	return nil
}

func checkLimits(l *costv1.BudgetLimits, bad report) {
	limited := false
	for _, limit := range []struct {
		field string
		value int64
	}{
		{"max_tokens", l.GetMaxTokens()},
		{"max_input_tokens", l.GetMaxInputTokens()},
		{"max_output_tokens", l.GetMaxOutputTokens()},
		{"max_llm_calls", int64(l.GetMaxLlmCalls())},
		{"max_tool_calls", int64(l.GetMaxToolCalls())},
		{"max_execution_time_seconds", l.GetMaxExecutionTimeSeconds()},
	} {
		if limit.value < 0 {
			bad("limits."+limit.field, "is negative")
		}
		limited = limited || limit.value != 0
	}
	switch usd := l.GetMaxCostUsd(); {
	case math.IsNaN(usd) || math.IsInf(usd, 0):
		bad("limits.max_cost_usd", "is not a finite number")
		return
	case usd < 0:
		bad("limits.max_cost_usd", "is negative")
		return
	case usd > 0:
		limited = true
		if _, err := money.FromUSD(usd); err != nil {
			bad("limits.max_cost_usd", "is too large")
		}
	}
	if !limited {
		bad("limits", "at least one limit must be above zero")
	}
}

func checkPeriod(p *costv1.BudgetPeriod, bad report) {
	switch p.GetPeriodType() {
	case costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_UNSPECIFIED:
		bad("period.period_type", "is required")
	case costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_CUSTOM:
		if p.GetDurationSeconds() <= 0 {
			bad("period.duration_seconds", "a CUSTOM period needs a duration above zero")
		}
	default:
		if _, ok := costv1.BudgetPeriodType_name[int32(p.GetPeriodType())]; !ok {
			bad("period.period_type", "%d is not a period", p.GetPeriodType())
		}
	}
	if s := p.GetDurationSeconds(); s < 0 || s > maxCustomSeconds {
		bad("period.duration_seconds", "must be between 0 and %d", maxCustomSeconds)
	}
	start, end := p.GetPeriodStart(), p.GetPeriodEnd()
	switch {
	case start != nil && !start.IsValid():
		bad("period.period_start", "is not a time")
	case end != nil && !end.IsValid():
		bad("period.period_end", "is not a time")
	case start != nil && end != nil && !end.AsTime().After(start.AsTime()):
		bad("period.period_end", "must be after period_start")
	}
}

func checkThresholds(ts []*costv1.NotificationThreshold, bad report) {
	seen := make(map[float32]bool, len(ts))
	for i, t := range ts {
		percent := t.GetThresholdPercent()
		field := fmt.Sprintf("thresholds[%d].threshold_percent", i)
		switch {
		case !(percent >= 0 && percent <= 100): // NaN too
			bad(field, "must be between 0 and 100")
		case seen[percent]:
			bad(field, "%v is there already", percent)
		}
		seen[percent] = true
	}
}

func checkScope(s *costv1.BudgetScope, bad report) {
	if id := s.GetApiKeyId(); id != "" && !keyID.MatchString(id) {
		bad("scope.api_key_id", "is not the id of an API key: 12 characters, not the key itself")
	}
	if id := s.GetEnvelopeId(); id != "" {
		if _, err := uuid.Parse(id); err != nil {
			bad("scope.envelope_id", "must be a UUID")
		}
	}
}
