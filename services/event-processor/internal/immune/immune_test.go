package immune_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/immune"
)

var (
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tenant = uuid.MustParse("0199c0de-0000-7000-8000-0000000000aa")
)

// decided is the event of a decision about a tool call.
func decided(decision string, change ...func(*busv1.Event)) *busv1.Event {
	reason := map[string]any{"policy_id": "p", "decision": decision, "shadow": false}
	payload, err := structpb.NewStruct(map[string]any{
		"method": "authorize", "action_kind": "TOOL_CALL", "action_name": "refund", "action_mark": "0badcafe", "reasons": []any{reason},
	})
	if err != nil {
		panic(err)
	}
	e := &busv1.Event{
		EventId: uuid.Must(uuid.NewV7()).String(), TenantId: tenant.String(), Type: "decision_made", Origin: busv1.Origin_ORIGIN_SYSTEM, Writer: "gateway",
		OccurredAt: timestamppb.New(noon), AgentId: "agent-1", ApiKeyId: "key-1", Decision: decision, Payload: payload,
	}
	for _, f := range change {
		f(e)
	}
	return e
}

func fact(name string, value any) func(*busv1.Event) {
	return func(e *busv1.Event) {
		v, err := structpb.NewValue(value)
		if err != nil {
			panic(err)
		}
		e.Payload.Fields[name] = v
	}
}

// Each rule counts what it is about, and nothing else.
func TestWhatEachDetectorSees(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		event *busv1.Event
		want  string
	}{
		"an allowed action":            {decided("ALLOW"), "loop"},
		"a denied action":              {decided("DENY"), "loop privilege"},
		"one that needs approval":      {decided("REQUIRE_APPROVAL"), "loop privilege"},
		"a data access":                {decided("ALLOW", fact("action_kind", "DATA_ACCESS")), "loop bulk_read"},
		"a denied data access":         {decided("DENY", fact("action_kind", "DATA_ACCESS")), "loop privilege"},
		"an evaluation":                {decided("ALLOW", fact("method", "evaluate")), ""},
		"no by a budget":               {decided("DENY", fact("reasons", []any{map[string]any{"rule_id": "BUDGET_EXCEEDED", "decision": "DENY"}})), "loop"},
		"no in the shadow":             {decided("DENY", fact("reasons", []any{map[string]any{"policy_id": "p", "decision": "DENY", "shadow": true}})), "loop"},
		"no because something is away": {decided("DENY", fact("degraded", true)), "loop"},
		"a charge":                     {decided("", func(e *busv1.Event) { e.Type, e.Cost, e.Payload = "action_settled", &busv1.CostFact{CostNano: 7}, nil }), "cost_velocity"},
		"somebody says so":             {decided("DENY", func(e *busv1.Event) { e.Origin = busv1.Origin_ORIGIN_CALLER }), ""},
		"another event":                {decided("DENY", func(e *busv1.Event) { e.Type = "incident_opened" }), ""},
		"nobody's":                     {decided("DENY", func(e *busv1.Event) { e.AgentId, e.ApiKeyId = "", "" }), ""},
		"no time":                      {decided("DENY", func(e *busv1.Event) { e.OccurredAt = nil }), ""},
		"no payload":                   {decided("DENY", func(e *busv1.Event) { e.Payload = nil }), ""},
	} {
		var got []string
		for _, s := range immune.See(tt.event) {
			got = append(got, string(s.Detector))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: seen by %v, want %q", name, got, tt.want)
		}
	}
}

// Windows do not overlap; the same action is the same pattern, and another
// argument is another.
func TestSightingsAreSummedByPatternAndWindow(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) func(*busv1.Event) {
		return func(e *busv1.Event) { e.OccurredAt = timestamppb.New(noon.Add(d)) }
	}
	events := []*busv1.Event{
		decided("ALLOW"), decided("ALLOW", at(59*time.Second)), decided("ALLOW", at(time.Minute)),
		decided("ALLOW", fact("action_mark", "other")), decided("ALLOW", func(e *busv1.Event) { e.AgentId = "agent-2" }),
	}
	windows := immune.Sum(tenant, immune.Detectors(nil), events)
	amounts := map[int64]int{}
	for _, w := range windows {
		amounts[w.Amount]++
	}
	if len(windows) != 4 || amounts[2] != 1 || amounts[1] != 3 {
		t.Errorf("%d windows, %v", len(windows), amounts)
	}
	off := immune.Detectors([]immune.Detector{{Name: immune.Loop, Enabled: false, Threshold: 2, Window: time.Minute}})
	if windows := immune.Sum(tenant, off, events); len(windows) != 0 {
		t.Errorf("a detector that is off counted: %v", windows)
	}
}

// A draft binds the agent that did it and nobody else; without an agent there is
// none.
func TestADraftIsForTheAgentAlone(t *testing.T) {
	t.Parallel()
	for _, e := range []*busv1.Event{decided("DENY", fact("action_kind", "DATA_ACCESS")), decided("ALLOW", fact("action_kind", "DATA_ACCESS"), func(e *busv1.Event) { e.Cost = &busv1.CostFact{CostNano: 5} })} {
		for _, s := range immune.See(e) {
			d, err := immune.One(immune.Detectors(nil), s.Detector)
			if err != nil {
				t.Fatal(err)
			}
			in := immune.Found(tenant, d, s, d.Threshold)
			p := in.Proposal
			if p == nil || len(p.GetScope().GetAgentIds()) != 1 || p.GetScope().GetAgentIds()[0] != "agent-1" || p.GetScope().GetApplyToAll() ||
				p.GetStatus().String() != "POLICY_STATUS_DRAFT" || len(p.GetRules()) != 1 || len(p.GetRules()[0].GetActions()) != 1 || in.Reasoning == "" || in.Severity == 0 || in.Category == 0 {
				t.Errorf("%s: %v", s.Detector, in)
			}
			s.Actor.Agent = ""
			if in := immune.Found(tenant, d, s, d.Threshold); in.Proposal != nil {
				t.Errorf("%s: a draft for nobody: %v", s.Detector, in.Proposal)
			}
		}
	}
}

// Nobody reviews what he caused, and an answer is given once.
func TestWhoMayAnswerAndHow(t *testing.T) {
	t.Parallel()
	g := immune.Generated{Cause: immune.Actor{Agent: "agent-1", KeyID: "key-1", User: "eve"}, State: immune.Pending}
	for _, who := range []identity.Principal{{AgentID: "agent-1"}, {AgentID: "agent-9"}, {KeyID: "key-1"}, {UserID: "eve", KeyID: "key-2"}} {
		if err := immune.MayReview(who, g); !fault.Is(err, fault.Denied) {
			t.Errorf("%+v: %v", who, err)
		}
	}
	if err := immune.MayReview(identity.Principal{UserID: "ada", KeyID: "key-2"}, g); err != nil {
		t.Error(err)
	}
	approve, reject, modify := brainv1.ReviewDecision_REVIEW_DECISION_APPROVE, brainv1.ReviewDecision_REVIEW_DECISION_REJECT, brainv1.ReviewDecision_REVIEW_DECISION_MODIFY
	for _, tt := range []struct {
		from   immune.State
		answer brainv1.ReviewDecision
		to     immune.State
		carry  bool
	}{
		{immune.Pending, approve, immune.Approving, true}, {immune.Pending, modify, immune.Modifying, true}, {immune.Pending, reject, immune.Rejected, false},
		{immune.Approving, approve, immune.Approving, true}, {immune.Approved, approve, immune.Approved, false}, {immune.Rejected, reject, immune.Rejected, false},
		{immune.Approving, reject, "", false}, {immune.Approved, reject, "", false}, {immune.Rejected, approve, "", false}, {immune.Modified, approve, "", false},
	} {
		g.State = tt.from
		to, carry, err := g.Next(tt.answer)
		if to != tt.to || carry != tt.carry || (err != nil) != (tt.to == "") || err != nil && !fault.Is(err, fault.Precondition) {
			t.Errorf("%s and %s: %s %t %v", tt.from, tt.answer, to, carry, err)
		}
	}
}
