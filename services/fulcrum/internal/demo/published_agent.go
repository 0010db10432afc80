package demo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// PublishedAgent is an agent program that knows only the published contract,
// as the SDKs in the field do: x-api-key, no policy ids, events for closing.
func PublishedAgent(ctx context.Context, getenv func(string) string, out io.Writer) error {
	conn, err := grpc.NewClient(getenv(envAddr), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-api-key", getenv(envKey))
	a := &publishedAgent{
		envelopes: envelopev1.NewEnvelopeServiceClient(conn),
		policies:  policyv1.NewPolicyServiceClient(conn),
		events:    eventstorev1.NewEventStoreServiceClient(conn),
	}

	j := newJournal(out)
	if !j.try("CreateEnvelope", func() (string, map[string]string, error) { return a.create(ctx) }) {
		return nil // reported; nothing else can work without it
	}
	j.try("EvaluatePolicy: a harmless tool", func() (string, map[string]string, error) {
		return a.evaluate(ctx, "search_crm", policyv1.EvaluationDecision_EVALUATION_DECISION_ALLOW)
	})
	j.try("EvaluatePolicy: a destructive tool", func() (string, map[string]string, error) {
		return a.evaluate(ctx, "drop_table", policyv1.EvaluationDecision_EVALUATION_DECISION_DENY)
	})
	j.try("PublishEvent: llm_call", func() (string, map[string]string, error) {
		return a.publish(ctx, "llm_call", map[string]any{"model": "gpt-4o", "input_tokens": 900, "output_tokens": 120})
	})
	j.try("UpdateEnvelopeStatus: RUNNING", func() (string, map[string]string, error) { return a.run(ctx) })
	j.try("PublishEvent: execution_completed", func() (string, map[string]string, error) {
		return a.publish(ctx, "execution_completed", map[string]any{"result": "ok"})
	})
	j.try("GetEnvelope", func() (string, map[string]string, error) { return a.status(ctx) })
	return nil
}

type publishedAgent struct {
	envelopes envelopev1.EnvelopeServiceClient
	policies  policyv1.PolicyServiceClient
	events    eventstorev1.EventStoreServiceClient
	envelope  *envelopev1.ExecutionEnvelope
}

func (a *publishedAgent) create(ctx context.Context) (string, map[string]string, error) {
	resp, err := a.envelopes.CreateEnvelope(ctx, &envelopev1.CreateEnvelopeRequest{
		AdapterType: "langchain", Metadata: map[string]string{"workflow": "crm-clean-up"}})
	if err != nil {
		return "", nil, err
	}
	a.envelope = resp.GetEnvelope()
	if got := a.envelope.GetStatus(); got != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED {
		return "", nil, fmt.Errorf("new envelope is %s", got)
	}
	return "envelope " + a.envelope.GetEnvelopeId() + " AUTHORIZED", map[string]string{"published_envelope_id": a.envelope.GetEnvelopeId()}, nil
}

func (a *publishedAgent) evaluate(ctx context.Context, toolName string, want policyv1.EvaluationDecision) (string, map[string]string, error) {
	resp, err := a.policies.EvaluatePolicy(ctx, &policyv1.EvaluatePolicyRequest{Context: &policyv1.EvaluationContext{
		EnvelopeId: a.envelope.GetEnvelopeId(), ToolNames: []string{toolName},
		Phase: policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL}})
	if err != nil {
		return "", nil, err
	}
	if got := resp.GetResult().GetDecision(); got != want {
		return "", nil, fmt.Errorf("%s is %s, want %s: %s", toolName, got, want, resp.GetResult().GetMessage())
	}
	text := fmt.Sprintf("%s: %s", toolName, want.String()[len("EVALUATION_DECISION_"):])
	if rules := resp.GetResult().GetMatchedRules(); len(rules) > 0 {
		text += fmt.Sprintf(" by rule %q", rules[0].GetRuleName())
	}
	return text, nil, nil
}

func (a *publishedAgent) publish(ctx context.Context, kind string, payload map[string]any) (string, map[string]string, error) {
	fields, err := structpb.NewStruct(payload)
	if err != nil {
		return "", nil, err
	}
	resp, err := a.events.PublishEvent(ctx, &eventstorev1.PublishEventRequest{Event: &eventstorev1.EventPayload{
		EnvelopeId: a.envelope.GetEnvelopeId(), ExecutionId: a.envelope.GetExecutionId(), EventType: kind, Payload: fields}})
	if err != nil {
		return "", nil, err
	}
	if resp.GetEventId() == "" || resp.GetStoredAt() == nil {
		return "", nil, errors.New("the answer has no event id or time")
	}
	return "event " + resp.GetEventId(), map[string]string{"published_event_id": resp.GetEventId()}, nil
}

func (a *publishedAgent) run(ctx context.Context) (string, map[string]string, error) {
	resp, err := a.envelopes.UpdateEnvelopeStatus(ctx, &envelopev1.UpdateEnvelopeStatusRequest{
		EnvelopeId: a.envelope.GetEnvelopeId(), Status: envelopev1.EnvelopeStatus_ENVELOPE_STATUS_RUNNING, Reason: "started"})
	return resp.GetEnvelope().GetStatus().String(), nil, err
}

func (a *publishedAgent) status(ctx context.Context) (string, map[string]string, error) {
	resp, err := a.envelopes.GetEnvelope(ctx, &envelopev1.GetEnvelopeRequest{EnvelopeId: a.envelope.GetEnvelopeId()})
	if err != nil {
		return "", nil, err
	}
	if got := resp.GetEnvelope().GetStatus(); got != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED {
		return "", nil, fmt.Errorf("envelope is %s after execution_completed", got)
	}
	return "closed by its own event: COMPLETED", nil, nil
}
