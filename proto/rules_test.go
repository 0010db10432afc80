package proto_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// requestsWithoutRules have no fields, so nothing that could be wrong.
var requestsWithoutRules = []protoreflect.FullName{
	"fulcrum.audit.v1.GetLogCheckpointRequest",
	"fulcrum.audit.v1.GetVerificationKeyRequest",
	"fulcrum.controlplane.v1.ListWebhooksRequest",
}

// No request reaches a handler unchecked: its rules are in its .proto file.
func TestEveryRequestHasRules(t *testing.T) {
	t.Parallel()
	eachMethod(func(m protoreflect.MethodDescriptor) {
		in := m.Input()
		free := slices.Contains(requestsWithoutRules, in.FullName())
		switch ruled := hasRules(in); {
		case !ruled && !free:
			t.Errorf("%s has no protovalidate rule", in.FullName())
		case ruled && free:
			t.Errorf("%s has rules: take it off the list of those without", in.FullName())
		}
		if free && in.Fields().Len() > 0 {
			t.Errorf("%s has fields, so it needs rules", in.FullName())
		}
	})
}

// A rule that does not compile would fail at the first request; it fails here
// instead.
func TestEveryRuleCompiles(t *testing.T) {
	t.Parallel()
	var all []protoreflect.MessageDescriptor
	eachMessage(func(m protoreflect.MessageDescriptor) { all = append(all, m) })
	v, err := protovalidate.New(protovalidate.WithMessageDescriptors(all...), protovalidate.WithDisableLazy())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		// New swallows what did not compile; an empty message brings it out. That
		// the empty message may break its rules is no matter here.
		err := v.Validate(dynamicpb.NewMessage(m))
		if _, broken := errors.AsType[*protovalidate.ValidationError](err); err != nil && !broken {
			t.Errorf("%s: %v", m.FullName(), err)
		}
	}
}

const anID = "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"

// The rules refuse what is wrong, and nothing that clients in the field send.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, message, body string
		refused             string // a part of the violation; empty: accepted
	}{
		{"an envelope as the Python SDK opens it", "envelope.v1.CreateEnvelopeRequest", `{"tenant_id":"acme","adapter_type":"custom","metadata":{"tool_name":"search"}}`, ""},
		{"an envelope as the TypeScript SDK opens it", "envelope.v1.CreateEnvelopeRequest", `{"workflowId":"billing run","metadata":{"k":"v"}}`, ""},
		{"an empty envelope", "envelope.v1.CreateEnvelopeRequest", `{}`, ""},
		{"a negative limit", "envelope.v1.CreateEnvelopeRequest", `{"governance":{"cost_limit_usd":-1}}`, "governance.cost_limit_usd"},
		{"a limit that is not a number", "envelope.v1.CreateEnvelopeRequest", `{"governance":{"cost_limit_usd":"NaN"}}`, "governance.cost_limit_usd"},
		{"an endless limit", "envelope.v1.CreateEnvelopeRequest", `{"governance":{"cost_limit_usd":"Infinity"}}`, "governance.cost_limit_usd"},
		{"a parent that is no id", "envelope.v1.CreateEnvelopeRequest", `{"parent_envelope_id":"x"}`, "parent_envelope_id"},
		{"a move", "envelope.v1.UpdateEnvelopeStatusRequest", `{"envelope_id":"` + anID + `","status":"ENVELOPE_STATUS_RUNNING"}`, ""},
		{"a move to nowhere", "envelope.v1.UpdateEnvelopeStatusRequest", `{"envelope_id":"` + anID + `"}`, "status"},
		{"a move to an unknown status", "envelope.v1.UpdateEnvelopeStatusRequest", `{"envelope_id":"` + anID + `","status":77}`, "status"},
		{"an envelope without id", "envelope.v1.GetEnvelopeRequest", `{}`, "envelope_id"},
		{"a page that is too large", "envelope.v1.ListEnvelopesRequest", `{"page_size":1001}`, "page_size"},
		{"a negative page", "envelope.v1.ListEnvelopesRequest", `{"page_size":-1}`, "page_size"},

		{"guard without policy_id", "policy.v1.EvaluatePolicyRequest", `{"context":{"tenant_id":"acme","workflow_id":"w","input_text":"hi","attributes":{"action":"search"}}}`, ""},
		{"guard without tenant", "policy.v1.EvaluatePolicyRequest", `{"context":{"input_text":"hi"}}`, ""},
		{"guard without anything", "policy.v1.EvaluatePolicyRequest", `{}`, ""},
		{"an unknown phase", "policy.v1.EvaluatePolicyRequest", `{"context":{"phase":42}}`, "context.phase"},
		{"all policies", "policy.v1.EvaluatePoliciesRequest", `{"context":{},"stop_on_deny":true}`, ""},
		{"a policy", "policy.v1.CreatePolicyRequest", `{"policy":{"name":"p","rules":[{"name":"r","conditions":[{"field":"tool.name","operator":"CONDITION_OPERATOR_IN","list_value":["a"]}]}]}}`, ""},
		{"a policy in Rego", "policy.v1.CreatePolicyRequest", `{"policy":{"name":"p","rego":"package p"}}`, ""},
		{"no policy", "policy.v1.CreatePolicyRequest", `{}`, "policy"},
		{"a policy without name", "policy.v1.CreatePolicyRequest", `{"policy":{}}`, "name is required"},
		{"a policy in two languages", "policy.v1.CreatePolicyRequest", `{"policy":{"name":"p","rego":"package p","rules":[{}]}}`, "not both"},
		{"a confidence over one, deep inside", "policy.v1.CreatePolicyRequest", `{"policy":{"name":"p","rules":[{"conditions":[{"nested_conditions":[{"semantic_confidence_threshold":1.5}]}]}]}}`, "nested_conditions[0].semantic_confidence_threshold"},
		{"an update by id alone", "policy.v1.UpdatePolicyRequest", `{"policy":{"policy_id":"` + anID + `"},"update_mask":["status"]}`, ""},
		{"an update without id", "policy.v1.UpdatePolicyRequest", `{"policy":{"name":"p"}}`, "policy_id"},
		{"an approval", "policy.v1.UpdateApprovalRequest", `{"approval_id":"` + anID + `","status":"APPROVED","reviewer_id":"eve"}`, ""},
		{"an approval set back", "policy.v1.UpdateApprovalRequest", `{"approval_id":"` + anID + `","status":"PENDING"}`, "status"},
		{"a history that ends before it starts", "policy.v1.GetEvaluationHistoryRequest", `{"policy_id":"` + anID + `","start_time":"2026-02-01T00:00:00Z","end_time":"2026-01-01T00:00:00Z"}`, "start_time"},

		{"a budget", "cost.v1.CreateBudgetRequest", `{"budget":{"name":"b","limits":{"max_cost_usd":10},"period":{"period_type":"BUDGET_PERIOD_TYPE_DAILY"},"thresholds":[{"threshold_percent":80}]}}`, ""},
		{"a negative budget", "cost.v1.CreateBudgetRequest", `{"budget":{"limits":{"max_tokens":-1}}}`, "limits.max_tokens"},
		{"a threshold over a hundred", "cost.v1.CreateBudgetRequest", `{"budget":{"thresholds":[{"threshold_percent":101}]}}`, "threshold_percent"},
		{"a custom period without length", "cost.v1.CreateBudgetRequest", `{"budget":{"period":{"period_type":"BUDGET_PERIOD_TYPE_CUSTOM"}}}`, "duration_seconds"},
		{"spend by team", "cost.v1.GetSpendSummaryRequest", `{"group_by":"SPEND_GROUP_BY_TEAM"}`, ""},

		{"an event of the caller's own kind", "eventstore.v1.PublishEventRequest", `{"event":{"execution_id":"run 7","event_type":"my_event","payload":{"x":1}}}`, ""},
		{"an event without type", "eventstore.v1.PublishEventRequest", `{"event":{}}`, "event.event_type"},
		{"an empty batch", "eventstore.v1.PublishEventBatchRequest", `{}`, "events"},
		{"a checkpoint under the framework's id", "checkpoint.v1.SaveCheckpointRequest", `{"checkpoint":{"checkpoint_id":"1ef-lg","execution_id":"thread-1","data":{}}}`, ""},
		{"a key", "tenant.v1.CreateApiKeyRequest", `{"name":"ci","scopes":["policy:read"]}`, ""},
		{"a key without name", "tenant.v1.CreateApiKeyRequest", `{}`, "name"},
		{"an agent", "agent.v1.CreateAgentRequest", `{"name":"a"}`, ""},
		{"metrics below zero", "agent.v1.RecordAgentMetricsRequest", `{"agent_id":"` + anID + `","cost":-0.1}`, "cost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := protovalidate.Validate(decode(t, tt.message, tt.body))
			switch {
			case tt.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.refused != "" && err == nil:
				t.Errorf("accepted, but %s is wrong", tt.refused)
			case tt.refused != "" && !strings.Contains(err.Error(), tt.refused):
				t.Errorf("refused for %v, not for %s", err, tt.refused)
			}
		})
	}
}

// hasRules says whether d itself, not what it contains, has a rule.
func hasRules(d protoreflect.MessageDescriptor) bool {
	if proto.HasExtension(d.Options(), validate.E_Message) {
		return true
	}
	for i := range d.Fields().Len() {
		if proto.HasExtension(d.Fields().Get(i).Options(), validate.E_Field) {
			return true
		}
	}
	return false
}

func decode(t *testing.T, message, body string) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("fulcrum." + message))
	if err != nil {
		t.Fatal(err)
	}
	m := mt.New().Interface()
	if err := protojson.Unmarshal([]byte(body), m); err != nil {
		t.Fatal(err)
	}
	return m
}
