package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/door"
	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// The REST clients in the field send either spelling to either prefix, and name
// a status without its prefix.
func TestTheRESTClientsOfTheFieldWork(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "REST clients")
	key := tenant.Owner.Key
	for _, prefix := range []string{"/v1", "/api/v1"} {
		for name, body := range map[string]struct{ create, run, complete string }{
			"snake_case": {
				`{"workflow_id":"nightly","adapter_type":"langchain","metadata":{"tool_name":"search"}}`,
				`{"envelope_id":%q,"status":"ENVELOPE_STATUS_RUNNING"}`, `{"envelope_id":%q,"status":"COMPLETED"}`,
			},
			"camelCase": {
				`{"workflowId":"nightly","adapterType":"langchain","metadata":{"tool_name":"search"}}`,
				`{"envelopeId":%q,"status":"RUNNING"}`, `{"envelopeId":%q,"status":"ENVELOPE_STATUS_COMPLETED"}`,
			},
		} {
			t.Run(prefix+" "+name, func(t *testing.T) {
				t.Parallel()
				created := new(envelopev1.CreateEnvelopeResponse)
				send(t, http.MethodPost, prefix+"/envelopes", key, body.create, created)
				id := created.GetEnvelope().GetEnvelopeId()
				if id == "" || created.GetEnvelope().GetWorkflowId() != "nightly" {
					t.Fatalf("created %v", created)
				}
				updated := new(envelopev1.UpdateEnvelopeStatusResponse)
				send(t, http.MethodPatch, prefix+"/envelopes/"+id+"/status", key, fmt.Sprintf(body.run, id), updated)
				if got := updated.GetEnvelope().GetStatus(); got != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_RUNNING {
					t.Errorf("the envelope is %s", got)
				}
				send(t, http.MethodPatch, prefix+"/envelopes/"+id+"/status", key, fmt.Sprintf(body.complete, id), updated)
				if got := updated.GetEnvelope().GetStatus(); got != envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED {
					t.Errorf("the envelope is %s", got)
				}
			})
		}
	}
}

// The budget side door only ever says whether an amount is allowed; what it
// records counts like everything else.
func TestTheBudgetSideDoorChecksAndRecords(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "side door")
	budget := tenant.Budget(t, &costv1.Budget{Name: "all", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}})
	ask := func(operation string, amount float64) bool {
		t.Helper()
		var answer struct{ Allowed *bool }
		sendJSON(t, http.MethodPost, "/api/v1/cost/record", tenant.Owner.Key,
			fmt.Sprintf(`{"operation":%q,"tenant_id":%q,"agent_id":"bot","amount":%v}`, operation, tenant.ID, amount), &answer)
		if answer.Allowed == nil {
			t.Fatal(`the answer has no "allowed"`)
		}
		return *answer.Allowed
	}
	for _, step := range []struct {
		operation string
		amount    float64
		want      bool
	}{
		{"check", 0.9, true}, {"check", 0.9, true}, // holds nothing
		{"record", 0.6, true}, {"check", 0.5, false}, {"check", 0.4, true},
	} {
		if got := ask(step.operation, step.amount); got != step.want {
			t.Errorf("%s of $%v: allowed = %v", step.operation, step.amount, got)
		}
	}
	status, err := tenant.Owner.Costs.GetBudgetStatus(t.Context(), &costv1.GetBudgetStatusRequest{BudgetId: budget.GetBudgetId()})
	if err != nil {
		t.Fatal(err)
	}
	if got := status.GetStatus().GetCurrentSpend().GetTotalCostUsd(); got != 0.6 {
		t.Errorf("$%v are spent, want 0.6", got)
	}
	for _, body := range []string{
		`{"operation":"record","amount":-1}`, `{"operation":"record","amount":1e400}`, `{"operation":"steal","amount":1}`,
		`{"operation":"record","amount":"NaN"}`, `[]`, ``,
	} {
		if a := refused(t, http.MethodPost, "/api/v1/cost/record", tenant.Owner.Key, body); a.Code != codes.InvalidArgument {
			t.Errorf("%s: %s", body, a)
		}
	}
	foreign := fmt.Sprintf(`{"operation":"record","tenant_id":%q,"amount":0.1}`, running.NewKey())
	if a := refused(t, http.MethodPost, "/api/v1/cost/record", tenant.Owner.Key, foreign); a.Code != codes.PermissionDenied || a.Reason != "TENANT_MISMATCH" {
		t.Errorf("another tenant's money: %s", a)
	}
}

// send makes a REST call that must succeed and reads its answer, which may be
// in either spelling.
func send(t *testing.T, method, path, key, body string, into proto.Message) {
	t.Helper()
	text := mustSend(t, method, path, key, body)
	if err := protojson.Unmarshal(text, into); err != nil {
		t.Fatalf("%s %s: %v: %.300s", method, path, err, text)
	}
}

func sendJSON(t *testing.T, method, path, key, body string, into any) {
	t.Helper()
	text := mustSend(t, method, path, key, body)
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s %s: %v: %.300s", method, path, err, text)
	}
}

func mustSend(t *testing.T, method, path, key, body string) []byte {
	t.Helper()
	resp, text := request(t, method, path, key, body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %.500s", method, path, resp.Status, text)
	}
	return text
}

// refused makes a REST call that must fail, and says how.
func refused(t *testing.T, method, path, key, body string) door.Answer {
	t.Helper()
	resp, text := request(t, method, path, key, body)
	if resp.StatusCode < 400 {
		t.Errorf("%s %s with %.100s: %s %.200s", method, path, body, resp.Status, text)
		return door.Answer{}
	}
	a, err := door.Problem(resp.StatusCode, resp.Header, text)
	if err != nil {
		t.Errorf("%s %s with %.100s: %v", method, path, body, err)
	}
	return a
}

func request(t *testing.T, method, path, key, body string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, stack.HTTPURL+path, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("X-Api-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, text
}
