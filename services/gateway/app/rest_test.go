package app_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// What REST clients have always sent, and expect back.
func TestRESTAsPublishedClientsSpeakIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "*")
	call := func(verb, path, body string) map[string]any {
		t.Helper()
		status, got := callHTTP(t, verb, g.http+path, body, "x-api-key", key)
		var out map[string]any
		if err := json.Unmarshal([]byte(got), &out); err != nil || status != 200 {
			t.Fatalf("%s %s: %d %s", verb, path, status, got)
		}
		return out
	}
	env := call("POST", "/api/v1/envelopes", `{"workflow_id":"w","metadata":{"a":"b"}}`)["envelope"].(map[string]any)
	id := env["envelope_id"].(string)
	if env["status"] != "ENVELOPE_STATUS_AUTHORIZED" || env["tenant_id"] != w.tenant.String() || env["created_at"] == "" {
		t.Errorf("created: %v", env)
	}
	for _, step := range []struct{ body, want string }{
		{`{"envelope_id":"` + id + `","status":"RUNNING"}`, "ENVELOPE_STATUS_RUNNING"},
		{`{"status":4}`, "ENVELOPE_STATUS_PAUSED"},
		{`{"envelopeId":"` + id + `","status" : "ENVELOPE_STATUS_RUNNING","reason":"status"}`, "ENVELOPE_STATUS_RUNNING"},
		{`{"status":"COMPLETED"}`, "ENVELOPE_STATUS_COMPLETED"},
	} {
		if got := call("PATCH", "/v1/envelopes/"+id+"/status", step.body)["envelope"].(map[string]any)["status"]; got != step.want {
			t.Errorf("%s: %v", step.body, got)
		}
	}
	if list := call("GET", "/v1/approvals?page_size=5", "")["approvals"]; list == nil || len(list.([]any)) != 0 {
		t.Errorf("approvals: %v", list)
	}
	if list := call("GET", "/api/v1/envelopes?workflow_id=w&pageSize=5", "")["envelopes"].([]any); len(list) != 1 {
		t.Errorf("envelopes: %v", list)
	}
	if b := call("GET", "/v1/budgets/"+okBudget, "")["budget"].(map[string]any); b["current_spend"].(map[string]any)["total_cost_usd"] != 1.5 {
		t.Errorf("budget: %v", b)
	}
	if status, body := callHTTP(t, "GET", g.http+"/v1/envelopes?page_size=many", "", "x-api-key", key); status != 400 || ofProblem(t, body).fields[0] != "page_size" {
		t.Errorf("a page of many: %d %s", status, body)
	}
	if status, body := callHTTP(t, "DELETE", g.http+"/v1/envelopes", "", "x-api-key", key); status != 405 || ofProblem(t, body).reason != "METHOD_NOT_ALLOWED" {
		t.Errorf("DELETE of a list: %d %s", status, body)
	}
}

// Front ends write policies as forms.
func TestPolicyForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "*")
	for form, want := range map[string]string{
		`{"policy_type":"cost_limit","name":"n","rules":{"max_cost_usd":5},"actions":[{"type":"block","message":"too dear"}],"enabled":true,"priority":3}`:              "",
		`{"policyType":"rate_limit","name":"n","rules":{"maxRequestsPerMinute":60}}`:                                                                                    "",
		`{"policy_type":"tool_restriction","name":"n","rules":{"blocked_tools":["rm"],"allowed_tools":["ls"]},"actions":[{"type":"deny","message":"no"}],"priority":1}`: "",
		`{"policy_type":"model_restriction","name":"n","rules":{"allowed_models":["gpt-4o"]},"enabled":false}`:                                                          "",
		`{"policy_type":"content_filter","name":"n","rules":{"blocked_patterns":["(?i)secret"]}}`:                                                                       "",
		`{"policy_type":"approval_required","name":"n","rules":{"trigger_actions":["delete_*"]},"actions":[{"type":"require_approval","message":"ask"}]}`:               "",
		`{"policy_type":"astrology","name":"n","rules":{}}`:                                                                                                             "policy_type",
		`{"policy_type":"cost_limit","name":"n","rules":{}}`:                                                                                                            "rules.max_cost_usd",
		`{"policy_type":"content_filter","name":"n","rules":{"blocked_patterns":["("]}}`:                                                                                "rules.blocked_patterns[0]",
		`{"policy_type":"cost_limit","name":"n","name":"m","rules":{"max_cost_usd":5}}`:                                                                                 "name",
		`{"policy_type":"cost_limit","name":"n","surprise":1,"rules":{"max_cost_usd":5}}`:                                                                               "surprise",
		`{"policy_type":"cost_limit","rules":{"max_cost_usd":5}}`:                                                                                                       "",
	} {
		status, body := callHTTP(t, "POST", g.http+"/api/v1/policies", form, "x-api-key", key)
		var got map[string]string
		if want == "" && strings.Contains(form, `"name"`) {
			if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || got["policy_id"] == "" || got["name"] != "n" || got["status"] == "" || got["created_at"] == "" {
				t.Errorf("%s: %d %s", form, status, body)
			}
			continue
		}
		if p := ofProblem(t, body); status != 400 || want != "" && (len(p.fields) != 1 || p.fields[0] != want) {
			t.Errorf("%s: %d %s", form, status, body)
		}
	}
	status, body := callHTTP(t, "POST", g.http+"/v1/policies", `{"name":"plain","rules":[{"rule_id":"r"}]}`, "x-api-key", key)
	if status != 200 || !strings.Contains(body, `"policy":{`) {
		t.Errorf("a policy as published: %d %s", status, body)
	}
}

// The budget side door.
func TestCostSideDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "*")
	for body, want := range map[string]string{
		`{"operation":"check","agent_id":"a","amount":0.5}`:                                   `{"allowed":true}`,
		`{"operation":"record","tenantId":"` + w.tenant.String() + `","amount":0.5}`:          `{"allowed":true}`,
		`{"operation":"refund","amount":1}`:                                                   "operation",
		`{"operation":"check","amount":-1}`:                                                   "amount",
		`{"operation":"check","amount":"1"}`:                                                  "amount",
		`{"operation":"check","tenant_id":"0199c0de-0000-7000-8000-000000000009","amount":1}`: "tenant_id",
	} {
		status, got := callHTTP(t, "POST", g.http+"/api/v1/cost/record", body, "x-api-key", key)
		if strings.HasPrefix(want, "{") {
			if status != 200 || strings.TrimSpace(got) != want {
				t.Errorf("%s: %d %s", body, status, got)
			}
		} else if p := ofProblem(t, got); status/100 != 4 || len(p.fields) != 1 || p.fields[0] != want {
			t.Errorf("%s: %d %s", body, status, got)
		}
	}
	if settled, held := w.ledger.count("SETTLED"), w.ledger.count("HELD"); settled != 1 || held != 0 {
		t.Errorf("%d charges, %d holds", settled, held)
	}
}

// Nobody may call from a browser unless his origin is configured.
func TestCORSIsOffUnlessConfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	closed, open := w.gateway(), w.gateway("GATEWAY_CORS_ORIGINS", "https://admin.example")
	ready(t, closed)
	ready(t, open)
	for base, want := range map[string]map[string]string{
		closed.http: {"https://admin.example": "", "https://evil.example": ""},
		open.http:   {"https://admin.example": "https://admin.example", "https://evil.example": ""},
	} {
		for origin, allowed := range want {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodOptions, base+"/v1/envelopes", nil)
			req.Header.Set("Origin", origin)
			req.Header.Set("Access-Control-Request-Method", "POST")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != allowed {
				t.Errorf("%s: %q", origin, got)
			}
		}
	}
}
