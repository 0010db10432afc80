package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/testing/protocmp"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/simulation"
)

const (
	allow   = governancev1.Decision_DECISION_ALLOW
	warn    = governancev1.Decision_DECISION_WARN
	approve = governancev1.Decision_DECISION_REQUIRE_APPROVAL
	deny    = governancev1.Decision_DECISION_DENY
)

// past is recorded decisions, newest first, in memory.
type past []simulation.Recorded

func (p past) Recorded(_ context.Context, _ uuid.UUID, _ simulation.Window, after simulation.Cursor, limit int) ([]simulation.Recorded, error) {
	if limit > 50 {
		return nil, fmt.Errorf("a page of %d", limit)
	}
	i := 0
	for !after.At.IsZero() && i < len(p) && !p[i].At.Before(after.At) {
		i++
	}
	return p[i:min(len(p), i+limit)], nil
}

// draft denies one tool, asks for approval of another, and fails on a third.
type draft struct{ err error }

func (d draft) Simulate(context.Context, *policyenginev1.SimulateChanges) (simulation.Session, error) {
	return d, d.err
}

func (draft) SetVersion() int64 { return 7 }

func (draft) Judge(facts []*policyenginev1.Facts) (out []*policyenginev1.SimulatedDecision, err error) {
	for _, f := range facts {
		a := &policyenginev1.SimulatedDecision{Before: allow, After: allow, DurationUs: 5}
		switch f.GetToolNames()[0] {
		case "drop":
			a.After, a.Reasons = deny, []*governancev1.Reason{{Message: "no"}}
		case "pay":
			a.After = approve
		case "odd":
			a.After, a.NewFailure = deny, true
		case "freed":
			a.Before, a.After = deny, warn
		}
		out = append(out, a)
	}
	return out, nil
}

func recorded(tools ...string) (p past) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for i, t := range tools {
		r := simulation.Recorded{
			ID: uuid.New(), At: at.Add(-time.Duration(i) * time.Minute), Answered: allow, Judged: allow, AgentID: "bot",
			ActionKind: "TOOL_CALL", ActionName: t, CostNano: 10, Facts: &policyenginev1.Facts{ToolNames: []string{t}},
		}
		if t == "freed" {
			r.Answered, r.Judged = deny, deny
		}
		p = append(p, r)
	}
	return p
}

func TestAReportCountsWhatWouldBeOtherwise(t *testing.T) {
	t.Parallel()
	p := recorded("drop", "search", "pay", "drop", "odd", "freed", "search")
	p[6].Judged = deny // by the policies of then
	got, err := simulation.Run(t.Context(), uuid.New(), p, draft{}, simulation.Order{Samples: 1}, func(int64) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	samples := got.GetSamples()
	got.Samples = nil
	want := &lifecyclev1.DifferenceReport{
		Judged: 7, NewlyDenied: &lifecyclev1.Difference{Decisions: 3, CostNano: 30}, NewlyHeldUp: &lifecyclev1.Difference{Decisions: 1, CostNano: 10},
		NewlyAllowed: &lifecyclev1.Difference{Decisions: 1, CostNano: 10}, Changed: &lifecyclev1.Difference{},
		ByTool: []*lifecyclev1.DifferenceBy{
			{Name: "drop", NewlyDenied: 2, CostNano: 20}, {Name: "freed", NewlyAllowed: 1, CostNano: 10},
			{Name: "odd", NewlyDenied: 1, CostNano: 10}, {Name: "pay", NewlyHeldUp: 1, CostNano: 10},
		},
		ByAgent:     []*lifecyclev1.DifferenceBy{{Name: "bot", NewlyDenied: 3, NewlyHeldUp: 1, NewlyAllowed: 1, CostNano: 50}},
		NewFailures: 1, Drifted: 1, PolicySetVersion: 7, P50Us: 5, P99Us: 5, From: got.GetFrom(), Until: got.GetUntil(),
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !got.GetFrom().AsTime().Equal(p[6].At) || !got.GetUntil().AsTime().Equal(p[0].At) {
		t.Errorf("from %v until %v", got.GetFrom().AsTime(), got.GetUntil().AsTime())
	}
	if len(samples) != 3 || samples[0].GetDecisionId() != p[0].ID.String() || samples[0].GetReasons()[0].GetMessage() != "no" || samples[0].GetRecorded() != allow {
		t.Errorf("samples: %v", samples)
	}
}

// It comes through every decision once, page by page, and stops where it was
// told to.
func TestASimulationIsBounded(t *testing.T) {
	t.Parallel()
	var tools []string
	for range 333 {
		tools = append(tools, "search")
	}
	p := recorded(tools...)
	for _, tt := range []struct {
		max, want int
		truncated bool
	}{{0, 333, false}, {333, 333, false}, {332, 332, true}, {50, 50, true}, {49, 49, true}, {1000, 333, false}} {
		got, err := simulation.Run(t.Context(), uuid.New(), p, draft{}, simulation.Order{Max: tt.max}, func(int64) error { return nil })
		if err != nil || got.GetJudged() != int64(tt.want) || got.GetTruncated() != tt.truncated {
			t.Errorf("at most %d: %d judged, truncated %v, %v", tt.max, got.GetJudged(), got.GetTruncated(), err)
		}
	}
	full := errors.New("full")
	if _, err := simulation.Run(t.Context(), uuid.New(), p, draft{full}, simulation.Order{}, nil); !errors.Is(err, full) {
		t.Errorf("an engine that refuses: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := simulation.Run(ctx, uuid.New(), broken{}, draft{}, simulation.Order{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left: %v", err)
	}
}

type broken struct{}

func (broken) Recorded(ctx context.Context, _ uuid.UUID, _ simulation.Window, _ simulation.Cursor, _ int) ([]simulation.Recorded, error) {
	return nil, ctx.Err()
}

func TestAShadowReportComparesWithWhatWasDecidedBesideIt(t *testing.T) {
	t.Parallel()
	p := recorded("drop", "search", "pay")
	for i, d := range []governancev1.Decision{deny, allow, approve} {
		p[i].Shadows = []*policyenginev1.ShadowOutcome{
			{PolicyId: "other", Version: 1, Live: allow, Decision: deny},
			{PolicyId: "mine", Version: int64(2 + i%2), Live: allow, Decision: d},
		}
	}
	got, err := simulation.Shadowed(t.Context(), uuid.New(), p, simulation.Window{Shadow: "mine"}, 0, 0)
	if err != nil || got.GetJudged() != 3 || got.GetNewlyDenied().GetDecisions() != 1 || got.GetNewlyHeldUp().GetDecisions() != 1 {
		t.Errorf("any version: %v %v", got, err)
	}
	got, err = simulation.Shadowed(t.Context(), uuid.New(), p, simulation.Window{Shadow: "mine"}, 3, 0)
	if err != nil || got.GetJudged() != 1 || got.GetNewlyDenied().GetDecisions() != 0 {
		t.Errorf("version 3: %v %v", got, err)
	}
}
