package envelope

import (
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// Sliced reports whether the envelope's own limits are a slice of its parent's.
func (e *Envelope) Sliced() bool {
	return len(e.Limits) > 0 && e.Limits[0].GetSlice() && e.Limits[0].GetEnvelopeId() == e.ID.String()
}

// slice refuses limits that cannot be a slice of those above: use of what the
// parent limits, and the slice does not, would count nowhere. Limits holds those
// of the ancestors; own are the fields of the governance that limit something.
func (e *Envelope) slice(field string, own map[string]bool) error {
	switch {
	case e.Parent == uuid.Nil:
		return fault.Field(field+".slice_of_parent", "is for envelopes that have a parent")
	case len(own) == 0:
		return fault.Field(field+".slice_of_parent", "needs limits to take a slice of")
	}
	var missing []fault.Violation
	for _, above := range e.Limits {
		for _, name := range slices.Sorted(maps.Keys(units(above))) {
			if !own[name] {
				own[name] = true // said once
				missing = append(missing, fault.Violation{Field: field + "." + name, Description: "must be set, because the envelope " + above.GetEnvelopeId() + " limits it"})
			}
		}
		if above.GetSlice() {
			break // what is above that stands behind it
		}
	}
	if len(missing) > 0 {
		return fault.Fields(missing...).WithReason("SLICE_INCOMPLETE")
	}
	return nil
}

// units are the fields of a governance that stand for what l limits.
func units(l *budgetv1.EnvelopeLimits) map[string]bool {
	out := make(map[string]bool)
	for name, limit := range map[string]int64{
		"token_budget": l.GetMaxTokens(), "cost_limit_usd": l.GetMaxCostNano(), "max_llm_calls": l.GetMaxLlmCalls(), "max_tool_calls": l.GetMaxToolCalls(),
		"max_input_tokens": l.GetMaxInputTokens(), "max_output_tokens": l.GetMaxOutputTokens(), "max_execution_seconds": l.GetMaxSeconds(),
	} {
		if limit > 0 {
			out[name] = true
		}
	}
	return out
}
