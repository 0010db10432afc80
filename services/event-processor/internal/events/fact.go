// Package events brings what travels on the bus into the journal.
package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// maxWord bounds the fields that are indexed; the front door allows a quarter.
const maxWord = 1024

// fact reads an event. An error means that the event can never be stored.
func fact(e *busv1.Event) (journal.Fact, error) {
	tenant, err := uuid.Parse(e.GetTenantId())
	if err != nil || tenant == uuid.Nil {
		return journal.Fact{}, fmt.Errorf("tenant_id %.64q is not a UUID", e.GetTenantId())
	}
	id, err := uuid.Parse(e.GetEventId())
	if err != nil || id == uuid.Nil {
		return journal.Fact{}, fmt.Errorf("event_id %.64q is not a UUID", e.GetEventId())
	}
	if err := e.GetOccurredAt().CheckValid(); err != nil {
		return journal.Fact{}, fmt.Errorf("occurred_at: %w", err)
	}
	f := journal.Fact{
		Tenant: tenant, ID: id, Type: journal.Text(e.GetType()), System: e.GetOrigin() == busv1.Origin_ORIGIN_SYSTEM, Writer: journal.Text(e.GetWriter()),
		OccurredAt:  e.GetOccurredAt().AsTime(),
		ExecutionID: journal.Text(e.GetExecutionId()), EnvelopeID: journal.Text(e.GetEnvelopeId()), WorkflowID: journal.Text(e.GetWorkflowId()),
		Actor: journal.Text(e.GetActor()), Action: journal.Text(e.GetAction()), Resource: journal.Text(e.GetResource()), Decision: journal.Text(e.GetDecision()),
		PolicyVersion: e.GetPolicyVersion(),
		AgentID:       journal.Text(e.GetAgentId()), Team: journal.Text(e.GetTeam()), APIKeyID: journal.Text(e.GetApiKeyId()), UserID: journal.Text(e.GetUserId()),
		TraceID: journal.Text(e.GetTraceId()), SpanID: journal.Text(e.GetSpanId()), Size: proto.Size(e),
	}
	if f.Type == "" {
		return journal.Fact{}, fmt.Errorf("the event has no type")
	}
	for name, word := range map[string]string{"type": f.Type, "execution_id": f.ExecutionID, "envelope_id": f.EnvelopeID,
		"workflow_id": f.WorkflowID, "agent_id": f.AgentID} {
		if len(word) > maxWord {
			return journal.Fact{}, fmt.Errorf("%s has %d bytes; %d are the most", name, len(word), maxWord)
		}
	}
	if f.Payload, err = payload(e.GetPayload()); err != nil {
		return journal.Fact{}, fmt.Errorf("payload: %w", err)
	}
	if f.Labels, err = labels(e.GetLabels()); err != nil {
		return journal.Fact{}, fmt.Errorf("labels: %w", err)
	}
	f.Final, f.Failed = final(e), failed(e)
	f.Stage = stage(e)
	if f.Stage.Ended != "" && f.APIKeyID == "" {
		f.APIKeyID = journal.Text(field(e, "key_id")) // the one that opened it
	}
	f.Cost, f.Latency = cost(e.GetCost()), latency(e.GetLatency())
	return f, nil
}

// finals are the types of event after which an execution does nothing more.
var finals = []string{"execution_completed", "execution_failed", "execution_terminated"}

// ends are the states that an envelope does not leave.
var ends = []string{"COMPLETED", "FAILED", "TERMINATED", "TIMEOUT", "POLICY_VIOLATION", "BUDGET_EXCEEDED"}

func final(e *busv1.Event) bool {
	if slices.Contains(finals, e.GetType()) {
		return true
	}
	if e.GetOrigin() != busv1.Origin_ORIGIN_SYSTEM || !strings.HasPrefix(e.GetType(), "envelope_") {
		return false
	}
	for _, field := range []string{"to", "status"} {
		if slices.Contains(ends, e.GetPayload().GetFields()[field].GetStringValue()) {
			return true
		}
	}
	return false
}

// stage is what the gateway says of an envelope; what callers publish never counts.
func stage(e *busv1.Event) (s journal.Stage) {
	if e.GetOrigin() != busv1.Origin_ORIGIN_SYSTEM {
		return s
	}
	state := ""
	switch e.GetType() {
	case "envelope_created":
		s.Opened, state = true, field(e, "status")
	case "envelope_status_changed":
		state = field(e, "to")
	}
	switch {
	case state == "COMPLETED":
		s.Ended = journal.Completed
	case state == "FAILED":
		s.Ended = journal.Failed
	case slices.Contains(ends, state):
		s.Ended = journal.Terminated
	}
	return s
}

func field(e *busv1.Event, name string) string {
	return e.GetPayload().GetFields()[name].GetStringValue()
}

func failed(e *busv1.Event) bool {
	return strings.HasSuffix(e.GetType(), "_failed") || e.GetType() == "error" ||
		e.GetType() == "action_settled" && strings.HasSuffix(e.GetPayload().GetFields()["outcome"].GetStringValue(), "FAILURE")
}

func cost(c *busv1.CostFact) *journal.Cost {
	if c == nil {
		return nil
	}
	return &journal.Cost{
		Model: journal.Text(c.GetModel()), Nano: c.GetCostNano(),
		Input: c.GetInputTokens(), Output: c.GetOutputTokens(), Cached: c.GetCachedTokens(), Reasoning: c.GetReasoningTokens(),
		LLMCalls: c.GetLlmCalls(), ToolCalls: c.GetToolCalls(), Seconds: c.GetSeconds(),
		PriceVersion: journal.Text(c.GetPriceVersion()), Reservation: journal.Text(c.GetReservationId()),
	}
}

func latency(l *busv1.LatencyFact) *journal.Latency {
	if l == nil {
		return nil
	}
	return &journal.Latency{
		Total:    time.Duration(l.GetTotalUs()) * time.Microsecond,
		Evaluate: time.Duration(l.GetEvaluateUs()) * time.Microsecond,
		Reserve:  time.Duration(l.GetReserveUs()) * time.Microsecond,
	}
}

func payload(p *structpb.Struct) (string, error) {
	if p == nil {
		return "{}", nil
	}
	text, err := p.MarshalJSON()
	if err != nil {
		return "", err
	}
	return cleanJSON(string(text)), nil
}

func labels(m map[string]string) (string, error) {
	if len(m) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	return cleanJSON(string(text)), nil
}

// cleanJSON is journal.Text for JSON: it replaces \u0000 that is not itself escaped.
func cleanJSON(s string) string {
	if !strings.Contains(s, `\u0000`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if strings.HasPrefix(s[i:], `\u0000`) {
			b.WriteString("\uFFFD")
			i += len(`\u0000`) - 1
			continue
		}
		b.WriteString(s[i : i+2]) // an escape is two characters at least
		i++
	}
	return b.String()
}
