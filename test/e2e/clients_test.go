package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/door"
	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// A client that was built from the published contract works unchanged, whatever
// protocol it speaks: it opens an envelope, asks without naming policies, and
// closes the envelope with nothing but an event.
func TestAPublishedClientWorksThroughEveryDoor(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "published clients")
	tenant.Deny(t, "drop_table")
	agent := tenant.Agent(t, "crm-bot")
	for _, d := range doors() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			c := published{t: t, door: d, key: agent.Key}
			opened := c.create(&envelopev1.CreateEnvelopeRequest{AdapterType: "langchain", Metadata: map[string]string{"tool_name": "search_crm"}})
			if got := opened.GetStatus(); got != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_AUTHORIZED {
				t.Fatalf("a new envelope is %s", got)
			}
			if opened.GetTenantId() != tenant.ID || opened.GetExecutionId() == "" {
				t.Errorf("the envelope does not say whose it is: %v", opened)
			}
			c.guard(opened, "search_crm", policyv1.EvaluationDecision_EVALUATION_DECISION_ALLOW)
			if rules := c.guard(opened, "drop_table", policyv1.EvaluationDecision_EVALUATION_DECISION_DENY).GetMatchedRules(); len(rules) == 0 {
				t.Error("the denial does not name its rule")
			}
			logged := c.log(opened, "llm_call")
			c.log(opened, "execution_completed")
			if got := c.get(opened).GetStatus(); got != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED {
				t.Errorf("after execution_completed the envelope is %s", got)
			}
			running.Eventually(t, 60*time.Second, func(ctx context.Context) error {
				resp, err := agent.Events.GetExecutionEvents(ctx, &eventstorev1.GetExecutionEventsRequest{ExecutionId: opened.GetExecutionId(), EventType: "llm_call"})
				if err != nil {
					return err
				}
				if len(resp.GetEvents()) != 1 || resp.GetEvents()[0].GetEventId() != logged {
					return fmt.Errorf("the event store has %d events of type llm_call, want the one that was logged", len(resp.GetEvents()))
				}
				return nil
			})
		})
	}
}

// The context managers of the SDKs log nothing but how it ended.
func TestAnEnvelopeWithoutAnyActionClosesByItsEvent(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "short lives")
	agent := tenant.Agent(t, "bot")
	for event, want := range map[string]envelopev1.EnvelopeStatus{
		"execution_completed": envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED,
		"execution_failed":    envelopev1.EnvelopeStatus_ENVELOPE_STATUS_FAILED,
	} {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			c := published{t: t, door: doors()[0], key: agent.Key}
			opened := c.create(&envelopev1.CreateEnvelopeRequest{})
			c.log(opened, event)
			if got := c.get(opened).GetStatus(); got != want {
				t.Errorf("the envelope is %s, want %s", got, want)
			}
			c.log(opened, event) // a client that heard nothing says it again
			if got := c.get(opened).GetStatus(); got != want {
				t.Errorf("said again: the envelope is %s, want %s", got, want)
			}
		})
	}
}

// What a caller reports is never taken for what Fulcrum did.
func TestACallersEventIsNotAFactOfFulcrum(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "forgers")
	agent := tenant.Agent(t, "forger")
	c := published{t: t, door: doors()[0], key: agent.Key}
	opened := c.create(&envelopev1.CreateEnvelopeRequest{})
	forged := c.log(opened, "decision_made")
	db := stack.Database(t)
	running.Eventually(t, 60*time.Second, func(ctx context.Context) error {
		n, err := db.TryCount(ctx, "select count(*) from fulcrum.events where tenant_id = $1 and event_id = $2 and origin = 2", tenant.ID, forged)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d rows say that a caller stated it", n)
		}
		return err
	})
	if n := db.Count(t, "select count(*) from fulcrum.decisions where tenant_id = $1 and id = $2", tenant.ID, forged); n != 0 {
		t.Error("the forged event became a decision")
	}
}

// published is a client of the published contract, through one door. Where a
// door has no form of a call, the client makes it over gRPC as the SDKs do.
type published struct {
	t    *testing.T
	door door.Door
	key  string
}

func (c published) call(method string, req proto.Message) proto.Message {
	c.t.Helper()
	m, err := door.Method(method)
	if err != nil {
		c.t.Fatal(err)
	}
	d := c.door
	if !d.Serves(m) {
		d = doors()[0]
	}
	a, err := d.Call(c.t.Context(), c.key, method, req)
	if err != nil {
		c.t.Fatal(err)
	}
	if a.Code != codes.OK {
		c.t.Fatalf("%s: %s", method, a)
	}
	return a.Body
}

func (c published) create(req *envelopev1.CreateEnvelopeRequest) *envelopev1.ExecutionEnvelope {
	c.t.Helper()
	resp := c.call(envelopev1.EnvelopeService_CreateEnvelope_FullMethodName, req)
	return resp.(*envelopev1.CreateEnvelopeResponse).GetEnvelope()
}

func (c published) get(e *envelopev1.ExecutionEnvelope) *envelopev1.ExecutionEnvelope {
	c.t.Helper()
	resp := c.call(envelopev1.EnvelopeService_GetEnvelope_FullMethodName, &envelopev1.GetEnvelopeRequest{EnvelopeId: e.GetEnvelopeId()})
	return resp.(*envelopev1.GetEnvelopeResponse).GetEnvelope()
}

// guard asks as the SDKs' guard() does: no policy id, tenant, workflow, text
// and attributes; here with the tool besides, as the benchmark harness does.
func (c published) guard(e *envelopev1.ExecutionEnvelope, tool string, want policyv1.EvaluationDecision) *policyv1.EvaluationResult {
	c.t.Helper()
	resp := c.call(policyv1.PolicyService_EvaluatePolicy_FullMethodName, &policyv1.EvaluatePolicyRequest{Context: &policyv1.EvaluationContext{
		TenantId: e.GetTenantId(), WorkflowId: "crm", EnvelopeId: e.GetEnvelopeId(), InputText: "hello", ToolNames: []string{tool},
		Attributes: map[string]string{"action": tool}, Phase: policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL,
	}})
	result := resp.(*policyv1.EvaluatePolicyResponse).GetResult()
	if result.GetDecision() != want {
		c.t.Errorf("%s is %s, want %s: %s", tool, result.GetDecision(), want, result.GetMessage())
	}
	return result
}

func (c published) log(e *envelopev1.ExecutionEnvelope, kind string) (id string) {
	c.t.Helper()
	payload, err := structpb.NewStruct(map[string]any{"model": "gpt-4o", "input_tokens": 900, "decision_id": "made up"})
	if err != nil {
		c.t.Fatal(err)
	}
	resp := c.call(eventstorev1.EventStoreService_PublishEvent_FullMethodName, &eventstorev1.PublishEventRequest{Event: &eventstorev1.EventPayload{
		ExecutionId: e.GetExecutionId(), EnvelopeId: e.GetEnvelopeId(), TenantId: e.GetTenantId(), EventType: kind, Payload: payload,
	}}).(*eventstorev1.PublishEventResponse)
	if resp.GetEventId() == "" || !resp.GetStoredAt().IsValid() {
		c.t.Errorf("the answer to PublishEvent lacks the event's id or time: %v", resp)
	}
	return resp.GetEventId()
}

func doors() []door.Door { return door.All(stack.GRPCAddr, stack.HTTPURL) }
