// Package simulation says what would have been decided otherwise: over recorded
// decisions judged again, and over what policies in shadow said beside them.
package simulation

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
)

// Recorded is a decision as it was recorded.
type Recorded struct {
	ID         uuid.UUID
	At         time.Time
	Answered   governancev1.Decision // to the caller
	Judged     governancev1.Decision // by the policies, before budgets and approvals
	AgentID    string
	ActionKind string
	ActionName string
	Model      string
	CostNano   int64 // held for it
	Facts      *policyenginev1.Facts
	Shadows    []*policyenginev1.ShadowOutcome
}

// What of a report is bounded.
const (
	DefaultSamples = 10
	maxGroups      = 50 // tools, and agents
	maxDurations   = 200_000
)

// The kinds of difference.
const (
	newlyDenied  = "newly_denied"
	newlyHeldUp  = "newly_held_up"
	newlyAllowed = "newly_allowed"
	changed      = "changed"
)

// Builder adds up a report. It is not safe for concurrent use.
type Builder struct {
	report  *lifecyclev1.DifferenceReport
	tools   map[string]*lifecyclev1.DifferenceBy
	agents  map[string]*lifecyclev1.DifferenceBy
	sampled map[string]int
	samples int
	took    []int64
}

// NewBuilder returns an empty Builder that keeps so many samples of each kind;
// zero is DefaultSamples.
func NewBuilder(samples int) *Builder {
	return &Builder{
		report: &lifecyclev1.DifferenceReport{
			NewlyDenied: &lifecyclev1.Difference{}, NewlyHeldUp: &lifecyclev1.Difference{},
			NewlyAllowed: &lifecyclev1.Difference{}, Changed: &lifecyclev1.Difference{},
		},
		tools: map[string]*lifecyclev1.DifferenceBy{}, agents: map[string]*lifecyclev1.DifferenceBy{},
		sampled: map[string]int{}, samples: cmp.Or(samples, DefaultSamples),
	}
}

// Judgement is what a recorded decision is compared by.
type Judgement struct {
	Before, After governancev1.Decision
	Reasons       []*governancev1.Reason
	Failed        bool // a policy fails that did not
	Micros        int64
}

// Add takes a decision into account.
func (b *Builder) Add(r Recorded, j Judgement) {
	b.report.Judged++
	if at := timestamppb.New(r.At); b.report.Until == nil {
		b.report.Until, b.report.From = at, at
	} else if r.At.Before(b.report.From.AsTime()) {
		b.report.From = at
	}
	if j.Failed {
		b.report.NewFailures++
	}
	if len(b.took) < maxDurations {
		b.took = append(b.took, j.Micros)
	}
	kind := kindOf(j.Before, j.After)
	if kind == "" {
		return
	}
	total := map[string]*lifecyclev1.Difference{
		newlyDenied: b.report.NewlyDenied, newlyHeldUp: b.report.NewlyHeldUp, newlyAllowed: b.report.NewlyAllowed, changed: b.report.Changed,
	}[kind]
	total.Decisions++
	total.CostNano += r.CostNano
	count(b.tools, tool(r), kind, r.CostNano)
	count(b.agents, r.AgentID, kind, r.CostNano)
	if b.sampled[kind] < b.samples {
		b.sampled[kind]++
		b.report.Samples = append(b.report.Samples, &lifecyclev1.DifferenceSample{
			DecisionId: r.ID.String(), DecidedAt: timestamppb.New(r.At), Kind: kind, AgentId: r.AgentID, ActionKind: r.ActionKind,
			ActionName: r.ActionName, Model: r.Model, CostNano: r.CostNano, Before: j.Before, After: j.After, Recorded: r.Answered, Reasons: j.Reasons,
		})
	}
}

// kindOf names a difference, "" for none. An action that needs a person is held
// up: neither denied nor allowed.
func kindOf(before, after governancev1.Decision) string {
	const deny = governancev1.Decision_DECISION_DENY
	switch {
	case before == after:
		return ""
	case after == deny:
		return newlyDenied
	case acts(before) && !acts(after):
		return newlyHeldUp
	case !acts(before) && acts(after):
		return newlyAllowed
	}
	return changed
}

func acts(d governancev1.Decision) bool {
	return d == governancev1.Decision_DECISION_ALLOW || d == governancev1.Decision_DECISION_WARN
}

// tool is what was asked for: a model for a call of one.
func tool(r Recorded) string {
	if r.ActionKind == "LLM_CALL" && r.Model != "" {
		return r.Model
	}
	if r.ActionName != "" {
		return r.ActionName
	}
	if names := r.Facts.GetToolNames(); len(names) > 0 {
		return names[0]
	}
	return cmp.Or(r.Model, r.Facts.GetModelId())
}

func count(by map[string]*lifecyclev1.DifferenceBy, name, kind string, nano int64) {
	d := by[name]
	if d == nil {
		d = &lifecyclev1.DifferenceBy{Name: name}
		by[name] = d
	}
	switch kind {
	case newlyDenied:
		d.NewlyDenied++
	case newlyHeldUp:
		d.NewlyHeldUp++
	case newlyAllowed:
		d.NewlyAllowed++
	case changed:
		d.Changed++
	}
	d.CostNano += nano
}

// Drifted counts a decision that the policies of today answer otherwise than
// those of then did.
func (b *Builder) Drifted() { b.report.Drifted++ }

// Report returns what was added up.
func (b *Builder) Report(truncated bool, setVersion int64) *lifecyclev1.DifferenceReport {
	b.report.Truncated, b.report.PolicySetVersion = truncated, setVersion
	b.report.ByTool, b.report.ByAgent = most(b.tools), most(b.agents)
	if n := len(b.took); n > 0 {
		slices.Sort(b.took)
		b.report.P50Us, b.report.P99Us = b.took[n/2], b.took[n*99/100]
	}
	return b.report
}

func most(by map[string]*lifecyclev1.DifferenceBy) (out []*lifecyclev1.DifferenceBy) {
	all := func(d *lifecyclev1.DifferenceBy) int64 {
		return d.GetNewlyDenied() + d.GetNewlyHeldUp() + d.GetNewlyAllowed() + d.GetChanged()
	}
	for _, d := range by {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *lifecyclev1.DifferenceBy) int {
		return cmp.Or(cmp.Compare(all(b), all(a)), cmp.Compare(a.GetName(), b.GetName()))
	})
	return out[:min(len(out), maxGroups)]
}
