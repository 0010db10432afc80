package api

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

func TestQueriesFilter(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant := dbtest.Tenant(t, w.db)
	early := time.Now().Add(-48 * time.Hour).UTC()
	facts := []journal.Fact{
		newFact(tenant, "llm_call", "run 1", "env", "prod"), newFact(tenant, "tool_call", "run 1", "env", "dev"),
		newFact(tenant, "llm_call", "run 2", "env", "prod"), newFact(tenant, "llm_call", ""),
	}
	facts[0].OccurredAt = early
	facts[1].WorkflowID, facts[3].EnvelopeID = "another", "run 1"
	w.record(facts...)

	for name, tt := range map[string]struct {
		req  *eventstorev1.QueryEventsRequest
		want []int
	}{
		"nothing said, newest first": {&eventstorev1.QueryEventsRequest{}, []int{3, 2, 1, 0}},
		"oldest first":               {&eventstorev1.QueryEventsRequest{Order: 1}, []int{0, 1, 2, 3}},
		"type":                       {&eventstorev1.QueryEventsRequest{Order: 1, EventType: "llm_call"}, []int{0, 2, 3}},
		"execution, and its envelope's events": {
			&eventstorev1.QueryEventsRequest{Order: 1, ExecutionId: "run 1"}, []int{0, 1, 3}},
		"workflow":      {&eventstorev1.QueryEventsRequest{WorkflowId: "another"}, []int{1}},
		"label":         {&eventstorev1.QueryEventsRequest{Order: 1, Labels: map[string]string{"env": "prod"}}, []int{0, 2}},
		"two labels":    {&eventstorev1.QueryEventsRequest{Labels: map[string]string{"env": "dev", "other": "1"}}, []int{1}},
		"other label":   {&eventstorev1.QueryEventsRequest{Labels: map[string]string{"env": "x"}}, nil},
		"start is in":   {&eventstorev1.QueryEventsRequest{Order: 1, StartTime: timestamppb.New(early), EndTime: timestamppb.New(early.Add(time.Microsecond))}, []int{0}},
		"end is out":    {&eventstorev1.QueryEventsRequest{EndTime: timestamppb.New(early)}, nil},
		"all together":  {&eventstorev1.QueryEventsRequest{TenantId: tenant.String(), EventType: "llm_call", ExecutionId: "run 2", WorkflowId: "flow", Labels: map[string]string{"env": "prod"}}, []int{2}},
		"zero in label": {&eventstorev1.QueryEventsRequest{Labels: map[string]string{"env": "\x00"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, err := w.events.QueryEvents(w.as(tenant, "event:read"), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, e := range resp.GetEvents() {
				got = append(got, slices.IndexFunc(facts, func(f journal.Fact) bool { return f.ID.String() == e.GetEventId() }))
			}
			if !slices.Equal(got, tt.want) || int(resp.GetTotalCount()) != len(tt.want) {
				t.Errorf("events %v of %d, want %v", got, resp.GetTotalCount(), tt.want)
			}
		})
	}
}

func TestAnEventComesBackWhole(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant := dbtest.Tenant(t, w.db)
	f := newFact(tenant, "llm_call", "run", "env", "prod")
	f.EnvelopeID, f.TraceID, f.SpanID = "envelope", "trace", "span"
	f.OccurredAt = f.OccurredAt.Truncate(time.Microsecond)
	w.record(f)
	resp, err := w.events.QueryEvents(w.as(tenant, "*"), &eventstorev1.QueryEventsRequest{})
	if err != nil || len(resp.GetEvents()) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	e := resp.GetEvents()[0]
	got := fmt.Sprint(e.GetEventId(), e.GetTenantId(), e.GetEventType(), e.GetExecutionId(), e.GetEnvelopeId(), e.GetWorkflowId(), e.GetTraceId(), e.GetSpanId(),
		e.GetSequenceNumber(), e.GetStreamSequence(), e.GetStreamName(), e.GetLabels(), e.GetPayload().AsMap(), e.GetTimestamp().AsTime().Equal(f.OccurredAt), e.GetStoredAt() != nil)
	if want := fmt.Sprint(f.ID.String(), tenant.String(), "llm_call", "run", "envelope", "flow", "trace", "span", 1, 1, "FULCRUM_EVENTS",
		map[string]string{"env": "prod", "other": "1"}, map[string]any{"n": 1, "deep": map[string]any{"list": []any{1, nil, "x"}}}, true, true); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Pages read while events come in neither skip nor repeat one.
func TestPagesAreStableWhileEventsComeIn(t *testing.T) {
	t.Parallel()
	for _, order := range []eventstorev1.QueryEventsRequest_OrderDirection{1, 2} {
		t.Run(order.String(), func(t *testing.T) {
			t.Parallel()
			w := serve(t)
			tenant := dbtest.Tenant(t, w.db)
			for range 25 {
				w.record(newFact(tenant, "x", "run"))
			}
			req := &eventstorev1.QueryEventsRequest{Limit: 10, Order: order, EventType: "x"}
			var got []int64
			for {
				resp, err := w.events.QueryEvents(w.as(tenant, "event:read"), req)
				if err != nil {
					t.Fatal(err)
				}
				if resp.GetTotalCount() != 25 {
					t.Errorf("total %d", resp.GetTotalCount())
				}
				for _, e := range resp.GetEvents() {
					got = append(got, e.GetStreamSequence())
				}
				if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" || len(got) > 100 {
					break
				}
				if len(got) < 30 { // else the oldest-first reader never ends
					w.record(newFact(tenant, "x", "run"), newFact(tenant, "y", "run"))
				}
			}
			if order == 2 {
				slices.Reverse(got)
			}
			if len(got) < 25 || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Errorf("positions %v", got)
			}
			for i := range 25 {
				if got[i] != int64(i+1) {
					t.Errorf("position %d is missing in %v", i+1, got)
				}
			}
		})
	}
}

func TestPageTokensBelongToTheirList(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant, other := dbtest.Tenant(t, w.db), dbtest.Tenant(t, w.db)
	for range 3 {
		w.record(newFact(tenant, "x", "run"), newFact(other, "x", "run"))
	}
	first, err := w.events.QueryEvents(w.as(tenant, "event:read"), &eventstorev1.QueryEventsRequest{Limit: 1, EventType: "x"})
	if err != nil {
		t.Fatal(err)
	}
	token := first.GetNextPageToken()
	for name, call := range map[string]func() error{
		"another filter": func() error {
			_, err := w.events.QueryEvents(w.as(tenant, "event:read"), &eventstorev1.QueryEventsRequest{PageToken: token, EventType: "y"})
			return err
		},
		"another order": func() error {
			_, err := w.events.QueryEvents(w.as(tenant, "event:read"), &eventstorev1.QueryEventsRequest{PageToken: token, EventType: "x", Order: 1})
			return err
		},
		"another tenant": func() error {
			_, err := w.events.QueryEvents(w.as(other, "event:read"), &eventstorev1.QueryEventsRequest{PageToken: token, EventType: "x"})
			return err
		},
		"another rpc": func() error {
			_, err := w.events.GetExecutionEvents(w.as(tenant, "event:read"), &eventstorev1.GetExecutionEventsRequest{PageToken: token, ExecutionId: "run"})
			return err
		},
		"cut": func() error {
			_, err := w.events.QueryEvents(w.as(tenant, "event:read"), &eventstorev1.QueryEventsRequest{PageToken: token[:11], EventType: "x"})
			return err
		},
		"nonsense": func() error {
			_, err := w.events.QueryEvents(w.as(tenant, "event:read"), &eventstorev1.QueryEventsRequest{PageToken: "!", EventType: "x"})
			return err
		},
		"limit": func() error {
			_, err := w.events.QueryEvents(w.as(tenant, "event:read"), &eventstorev1.QueryEventsRequest{Limit: 1001})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := call(); !errors.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAnExecutionIsReadInItsOrder(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant := dbtest.Tenant(t, w.db)
	for range 5 {
		w.record(newFact(tenant, "x", "run"), newFact(tenant, "x", "noise"))
	}
	end := newFact(tenant, "execution_completed", "run")
	end.Final = true
	w.record(end)
	req := &eventstorev1.GetExecutionEventsRequest{ExecutionId: "run", Limit: 4}
	var got []int64
	for {
		resp, err := w.events.GetExecutionEvents(w.as(tenant, "event:read"), req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetTotalEventCount() != 6 || resp.GetExecutionStartedAt() == nil || resp.GetExecutionEndedAt() == nil {
			t.Errorf("%v", resp)
		}
		for _, e := range resp.GetEvents() {
			got = append(got, e.GetSequenceNumber())
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if !slices.Equal(got, []int64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("numbers %v", got)
	}
	resp, err := w.events.GetExecutionEvents(w.as(tenant, "event:read"), &eventstorev1.GetExecutionEventsRequest{ExecutionId: "none"})
	if err != nil || len(resp.GetEvents()) != 0 || resp.GetExecutionStartedAt() != nil {
		t.Errorf("of an unknown one: %v, %v", resp, err)
	}
}

func TestStatsCount(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant, other := dbtest.Tenant(t, w.db), dbtest.Tenant(t, w.db)
	empty, err := w.events.GetEventStoreStats(w.as(tenant, "event:read"), &eventstorev1.GetEventStoreStatsRequest{})
	if err != nil || empty.GetTotalEvents() != 0 || empty.GetOldestEvent() != nil {
		t.Errorf("empty: %v, %v", empty, err)
	}
	w.record(newFact(tenant, "x", "a"), newFact(tenant, "y", "a"), newFact(tenant, "x", "a"), newFact(other, "x", "a"))
	got, err := w.events.GetEventStoreStats(w.as(tenant, "event:read"), &eventstorev1.GetEventStoreStatsRequest{TenantId: tenant.String()})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetTotalEvents() != 3 || got.GetEventsByType()["x"] != 2 || got.GetEventsByType()["y"] != 1 || got.GetStorageBytes() != 30 ||
		got.GetNewestEvent().AsTime().Before(got.GetOldestEvent().AsTime()) || got.GetStreams()[0].GetMessageCount() != 3 {
		t.Errorf("%v", got)
	}
}

// The tenant is the credential's; scopes open each method and nothing else.
func TestCallersAreHeldToTheirTenantAndScopes(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant, other := dbtest.Tenant(t, w.db), dbtest.Tenant(t, w.db)
	w.record(newFact(other, "x", "run"))
	calls := map[string]func(scope string, named string) error{
		"query": func(scope, named string) error {
			_, err := w.events.QueryEvents(w.as(tenant, scope), &eventstorev1.QueryEventsRequest{TenantId: named})
			return err
		},
		"stats": func(scope, named string) error {
			_, err := w.events.GetEventStoreStats(w.as(tenant, scope), &eventstorev1.GetEventStoreStatsRequest{TenantId: named})
			return err
		},
		"stream": func(scope, named string) error {
			s, err := w.events.StreamEvents(w.as(tenant, scope), &eventstorev1.StreamEventsRequest{TenantId: named})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	}
	for name, call := range calls {
		for _, named := range []string{other.String(), "not a uuid", uuid.Nil.String()} {
			err := call("event:read", named)
			f, ok := fault.As(err)
			if !ok || f.Kind != fault.Denied || len(f.Violations) != 1 || f.Violations[0].Field != "tenant_id" {
				t.Errorf("%s as tenant %q: %v", name, named, err)
			}
		}
		if err := call("agent:read", ""); !errors.Is(err, fault.Denied) {
			t.Errorf("%s without its scope: %v", name, err)
		}
	}
	if _, err := w.events.GetExecutionEvents(w.as(tenant, "agent:read"), &eventstorev1.GetExecutionEventsRequest{ExecutionId: "run"}); !errors.Is(err, fault.Denied) {
		t.Errorf("execution without its scope: %v", err)
	}
	if resp, err := w.events.GetExecutionEvents(w.as(tenant, "event:read"), &eventstorev1.GetExecutionEventsRequest{ExecutionId: "run"}); err != nil || len(resp.GetEvents()) != 0 {
		t.Errorf("another tenant's execution: %v, %v", resp, err)
	}
	agent := &agentv1.GetAgentMetricsRequest{AgentId: uuid.NewString()}
	if _, err := w.agents.GetAgentMetrics(w.as(tenant, "event:read"), agent); !errors.Is(err, fault.Denied) {
		t.Errorf("agent metrics without their scope: %v", err)
	}
	if _, err := w.events.QueryEvents(t.Context(), &eventstorev1.QueryEventsRequest{}); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("without a caller: %v", err)
	}
}

func TestAgentMetricsAreAnswered(t *testing.T) {
	t.Parallel()
	w := serve(t)
	tenant, agent := dbtest.Tenant(t, w.db), uuid.NewString()
	f := newFact(tenant, "decision_made", "run")
	f.AgentID, f.Decision, f.Latency = agent, "DENY", &journal.Latency{Total: 1500 * time.Microsecond}
	f.OccurredAt = time.Now().Add(-24 * time.Hour)
	g := newFact(tenant, "cost_recorded", "run")
	g.AgentID, g.Cost, g.OccurredAt = agent, &journal.Cost{Nano: 1_500_000_000, Input: 3, Output: 4}, f.OccurredAt
	w.record(f, g)
	resp, err := w.agents.GetAgentMetrics(w.as(tenant, "agent:read"), &agentv1.GetAgentMetricsRequest{AgentId: agent})
	if err != nil || len(resp.GetMetrics()) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	m := resp.GetMetrics()[0]
	got := fmt.Sprint(m.GetAgentId(), m.GetPeriod(), m.GetRequestCount(), m.GetViolationCount(), m.GetTotalCost(), m.GetInputTokens(), m.GetOutputTokens(), m.GetP99LatencyMs(), m.GetAvgLatencyMs())
	if want := fmt.Sprint(agent, "daily", 1, 1, 1.5, 3, 4, 1.5, 1.5); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if resp.GetCurrent().GetRequestCount() != 0 || resp.GetCurrent().GetTimestamp() == nil {
		t.Errorf("current %v", resp.GetCurrent())
	}
	_, err = w.agents.GetAgentMetrics(w.as(tenant, "agent:read"), &agentv1.GetAgentMetricsRequest{AgentId: agent, Period: "realtime",
		StartTime: timestamppb.New(time.Now().Add(-30 * 24 * time.Hour))})
	if !errors.Is(err, fault.Invalid) {
		t.Errorf("a month by the minute: %v", err)
	}
}

func FuzzPageToken(f *testing.F) {
	l := list{kind: "query", filter: journal.Filter{Type: "x"}}
	f.Add(l.token(place{last: 7, total: 1 << 40}))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		p, ok, err := l.place(token)
		if err != nil || !ok {
			return
		}
		if p.last < 0 || p.total < 0 {
			t.Errorf("%q is place %+v", token, p)
		}
		if again, ok, err := l.place(l.token(p)); err != nil || !ok || again != p {
			t.Errorf("%q does not come back", token)
		}
	})
}
