package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// zen is the answer of the AuthZEN door.
type zen struct {
	Decision *bool
	Context  struct {
		DecisionID string `json:"decision_id"`
		Effect     string
		Reasons    []map[string]any
		Approval   map[string]any
		Error      map[string]any
	}
	Evaluations []zen
}

func evaluate(t *testing.T, g *gateway, path, body string, header ...string) (int, zen, string) {
	t.Helper()
	status, raw := callHTTP(t, "POST", g.http+"/access/v1/"+path, body, header...)
	var z zen
	if status == 200 {
		if err := json.Unmarshal([]byte(raw), &z); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	return status, z, raw
}

// bySubject makes the engine judge as the specification's fixture: bob may not
// write, and nobody may write what is archived.
func bySubject(req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	f := req.GetFacts()
	switch {
	case f.GetAction().GetName() == "write" && f.GetUserId() == "bob", f.GetAttributes()["resource.properties.status"] == "archived":
		return judgement(denied), nil
	case f.GetAction().GetName() == "delete":
		return judgement(asks), nil
	}
	return judgement(allowed), nil
}

const readRecord = `{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`

// A question of AuthZEN is an action: judged, recorded, and answered with why.
func TestAuthZENQuestionsAreDecisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.says(bySubject)
	key := w.key(w.tenant, "envelope:write")

	status, z, raw := evaluate(t, g, "evaluation", `{"subject":{"type":"user","id":"alice","properties":{"role":"manager","age":41}},
		"action":{"name":"read","properties":{"soft":true}},"resource":{"type":"record","id":"record-1","properties":{"owner":{"id":7},"old":null}},
		"context":{"ip":"192.0.2.1"},"futureField":{"nested":true}}`, "x-api-key", key)
	if status != 200 || z.Decision == nil || !*z.Decision || z.Context.DecisionID == "" {
		t.Fatalf("%d %s", status, raw)
	}
	asked := w.engine.asked[len(w.engine.asked)-1].GetFacts()
	if asked.GetUserId() != "alice" || len(asked.GetUserRoles()) != 1 || asked.GetAction().GetKind() != governancev1.ActionKind_ACTION_KIND_OTHER ||
		asked.GetAction().GetResource() != "record:record-1" || !asked.GetAction().GetArguments().GetFields()["soft"].GetBoolValue() {
		t.Errorf("facts: %v", asked)
	}
	for name, want := range map[string]string{"subject.properties.age": "41", "resource.properties.owner.id": "7", "context.ip": "192.0.2.1", "resource.id": "record-1"} {
		if got := asked.GetAttributes()[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if _, there := asked.GetAttributes()["resource.properties.old"]; there {
		t.Error("a null became a fact")
	}
	one, err := governanceOf(g).GetDecision(as(t, w.key(w.tenant, "audit:read")), &governancev1.GetDecisionRequest{DecisionId: z.Context.DecisionID})
	if err != nil || one.GetDecision().GetUserId() != "alice" {
		t.Errorf("recorded: %v, %v", one, err)
	}
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'decision_made'`); n != 1 {
		t.Errorf("%d events", n)
	}

	_, z, raw = evaluate(t, g, "evaluation", strings.ReplaceAll(strings.ReplaceAll(readRecord, "alice", "bob"), "read", "write"), "x-api-key", key)
	if z.Decision == nil || *z.Decision || z.Context.Effect != "DENY" || len(z.Context.Reasons) != 1 || z.Context.Reasons[0]["message"] != "because of a rule" {
		t.Errorf("a denial: %s", raw)
	}
	_, z, raw = evaluate(t, g, "evaluation", strings.ReplaceAll(readRecord, "read", "delete"), "x-api-key", key)
	if z.Decision == nil || *z.Decision || z.Context.Approval["approval_id"] == "" || z.Context.Effect != "REQUIRE_APPROVAL" {
		t.Errorf("needs approval: %s", raw)
	}
	// Of an agent, about a tool: the agent acts, and the tool call is held.
	_, z, raw = evaluate(t, g, "evaluation", `{"subject":{"type":"agent","id":"agent-7"},"action":{"name":"invoke","properties":{"to":"x"}},"resource":{"type":"tool","id":"send_email"}}`, "x-api-key", key)
	asked = w.engine.asked[len(w.engine.asked)-1].GetFacts()
	if z.Decision == nil || !*z.Decision || asked.GetAgentId() != "agent-7" || asked.GetAction().GetName() != "send_email" || w.ledger.count("HELD") != 1 {
		t.Errorf("a tool call: %s, %v", raw, asked)
	}
}

// An approval that was given lets exactly this question through, once.
func TestAnApprovalAnswersAnAuthZENQuestionOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks)
	agent, person := w.key(w.tenant, "envelope:write"), w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, UserID: "ada"})
	_, z, raw := evaluate(t, g, "evaluation", readRecord, "x-api-key", agent)
	id, _ := z.Context.Approval["approval_id"].(string)
	if _, err := review(t, g, person, id, "APPROVED"); err != nil {
		t.Fatal(raw, err)
	}
	with := func(question string) zen {
		_, z, raw := evaluate(t, g, "evaluation", strings.TrimSuffix(question, "}")+`,"context":{"fulcrum":{"approval_id":"`+id+`"}}}`, "x-api-key", agent)
		if z.Decision == nil {
			t.Fatal(raw)
		}
		return z
	}
	if z := with(strings.ReplaceAll(readRecord, "record-1", "record-2")); *z.Decision {
		t.Error("it let another resource through")
	}
	if z := with(readRecord); !*z.Decision {
		t.Errorf("it did not let its own through: %v", z)
	}
	if z := with(readRecord); *z.Decision {
		t.Error("it was used twice")
	}
}

// A batch is answered in its order, and ends when its semantic says so.
func TestAuthZENBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.says(bySubject)
	key := w.key(w.tenant, "envelope:write")
	const four = `"action":{"name":"write"},"resource":{"type":"record","id":"record-1"},"evaluations":[
		{"subject":{"type":"user","id":"alice"}},{"subject":{"type":"user","id":"bob"}},
		{"subject":{"type":"user","id":"alice"},"resource":{"id":"record-2","properties":{"status":"archived"}}},{"subject":{"type":"user","id":"carol"}}]`
	for semantic, want := range map[string]string{
		`{` + four + `}`: "true false false true",
		`{"options":{"evaluations_semantic":"execute_all","another":1},` + four + `}`: "true false false true",
		`{"options":{"evaluations_semantic":"deny_on_first_deny"},` + four + `}`:      "true false",
		`{"options":{"evaluations_semantic":"permit_on_first_permit"},` + four + `}`:  "true",
		`{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"evaluations":[` +
			`{"resource":{"type":"record","id":"r"}},{},{"resource":"r"},{"action":{"name":5},"resource":{"type":"record","id":"r"}}]}`: "true false false false",
	} {
		status, z, raw := evaluate(t, g, "evaluations", semantic, "x-api-key", key)
		var got []string
		for _, e := range z.Evaluations {
			got = append(got, fmt.Sprint(*e.Decision))
		}
		if status != 200 || strings.Join(got, " ") != want || z.Decision != nil {
			t.Errorf("%s: %d %s", semantic, status, raw)
		}
	}
	for _, single := range []string{readRecord, strings.TrimSuffix(readRecord, "}") + `,"evaluations":[]}`} {
		if status, z, raw := evaluate(t, g, "evaluations", single, "x-api-key", key); status != 200 || z.Decision == nil || !*z.Decision {
			t.Errorf("%d %s", status, raw)
		}
	}
	before := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions`)
	many := `{"evaluations":[` + strings.Repeat(readRecord+",", 100) + readRecord + `]}`
	if status, _, raw := evaluate(t, g, "evaluations", many, "x-api-key", key); status != 400 || !strings.Contains(raw, "evaluations") {
		t.Errorf("%d %s", status, raw)
	}
	if status, _, raw := evaluate(t, g, "evaluations", `{"options":{"evaluations_semantic":"guess"},`+four+`}`, "x-api-key", key); status != 400 || !strings.Contains(raw, "options.evaluations_semantic") {
		t.Errorf("%d %s", status, raw)
	}
	if after := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions`); after != before {
		t.Error("a refused batch was decided in part")
	}
}

// The AuthZEN door refuses as every other does, and a refusal records nothing.
func TestTheAuthZENDoorRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "envelope:write")
	bound := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, AgentID: "agent-1"})
	theirs, err := governanceOf(g).Authorize(as(t, w.key(newTenant(w), "*")), &governancev1.AuthorizeRequest{
		Envelope: &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{}}, Action: toolCall("").GetAction(), IdempotencyKey: "k",
	})
	if err != nil {
		t.Fatal(err)
	}
	before := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions`)
	in := func(context string) string {
		return strings.TrimSuffix(readRecord, "}") + `,"context":` + context + `}`
	}
	for _, tt := range []struct {
		name, body, key string
		status          int
		says            string
	}{
		{"anonymous", readRecord, "", 401, "CREDENTIAL_MISSING"},
		{"forged", readRecord, forge(key), 401, ""},
		{"another scope", readRecord, w.key(w.tenant, "policy:read"), 403, "SCOPE_MISSING"},
		{"the administrator", readRecord, adminKey, 401, ""},
		{"no subject", `{"action":{"name":"read"},"resource":{"type":"r","id":"1"}}`, key, 400, "subject"},
		{"no action", `{"subject":{"type":"user","id":"a"},"resource":{"type":"r","id":"1"}}`, key, 400, "action"},
		{"no resource", `{"subject":{"type":"user","id":"a"},"action":{"name":"read"}}`, key, 400, "resource"},
		{"no subject id", strings.ReplaceAll(readRecord, `,"id":"alice"`, ""), key, 400, "subject.id"},
		{"no name", strings.ReplaceAll(readRecord, `"name":"read"`, ""), key, 400, "action.name"},
		{"a text for a subject", strings.ReplaceAll(readRecord, `{"type":"user","id":"alice"}`, `"alice"`), key, 400, "subject"},
		{"a number for a name", strings.ReplaceAll(readRecord, `"read"`, `123`), key, 400, "action.name"},
		{"a key twice", strings.ReplaceAll(readRecord, `"name":"read"`, `"name":"read","Name":"write"`), key, 400, "duplicate"},
		{"not JSON", `{"subject":`, key, 400, "REQUEST_MALFORMED"},
		{"nothing", ``, key, 400, "REQUEST_MALFORMED"},
		{"something after it", readRecord + "{}", key, 400, "REQUEST_MALFORMED"},
		{"NUL", strings.ReplaceAll(readRecord, "alice", `a\u0000`), key, 400, "NUL"},
		{"long attribute", in(`{"x":"` + strings.Repeat("x", 5000) + `"}`), key, 400, "attributes"},
		{"too large", in(`{"x":"` + strings.Repeat("x", 5<<20) + `"}`), key, 413, "MESSAGE_TOO_LARGE"},
		{"a path twice", in(`{"a.b":1,"a":{"b":2}}`), key, 400, "context.a.b"},
		{"an action of its own", in(`{"fulcrum":{"action":{"kind":1,"name":"x"}}}`), key, 400, "context.fulcrum"},
		{"another tenant's envelope", in(`{"fulcrum":{"envelope_id":"` + theirs.GetEnvelopeId() + `"}}`), key, 404, ""},
		{"another agent", strings.ReplaceAll(readRecord, `"user"`, `"agent"`), bound, 403, "AGENT_MISMATCH"},
	} {
		header := []string{"x-api-key", tt.key}
		if tt.key == "" {
			header = nil
		}
		status, _, raw := evaluate(t, g, "evaluation", tt.body, header...)
		if tt.name == "the administrator" && status == 403 {
			continue
		}
		if status != tt.status || !strings.Contains(raw, tt.says) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, status, raw, tt.status, tt.says)
		}
	}
	w.engine.says(func(*policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		return nil, fault.New(fault.Invalid, "no such fact")
	})
	if status, z, raw := evaluate(t, g, "evaluations", `{"evaluations":[`+readRecord+`]}`, "x-api-key", key); status != 200 || *z.Evaluations[0].Decision || z.Evaluations[0].Context.Error["status"] != 400.0 {
		t.Errorf("an error in a batch: %d %s", status, raw)
	}
	if after := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions`); after != before {
		t.Errorf("%d decisions of refused questions", after-before)
	}
}

// What a caller of this door could not see is not allowed by it.
func TestAuthZENDoesNotAllowWhatMustBeChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(allowed, func(r *policyenginev1.EvaluateResponse) {
		r.Obligations = []*governancev1.Obligation{{Type: "MODIFY", Parameters: map[string]string{"field": "to"}}}
	})
	_, z, raw := evaluate(t, g, "evaluation", `{"subject":{"type":"agent","id":"a"},"action":{"name":"invoke"},"resource":{"type":"tool","id":"send_email"}}`, "x-api-key", w.key(w.tenant, "*"))
	if z.Decision == nil || *z.Decision || z.Context.Error["reason"] != "OBLIGATION_UNMET" {
		t.Error(raw)
	}
	if held, released := w.ledger.count("HELD"), w.ledger.count("RELEASED"); held != 0 || released != 1 {
		t.Errorf("%d held, %d released", held, released)
	}
}

// Callers find the door by its metadata, and their request id comes back.
func TestAuthZENSaysWhereItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g, named := w.gateway(), w.gateway("GATEWAY_PUBLIC_URL", "https://pdp.example/")
	ready(t, g)
	ready(t, named)
	for base, want := range map[string]string{g.http: g.http, named.http: "https://pdp.example"} {
		status, raw := callHTTP(t, "GET", base+"/.well-known/authzen-configuration", "")
		var got map[string]string
		if err := json.Unmarshal([]byte(raw), &got); err != nil || status != 200 {
			t.Fatal(status, raw)
		}
		if got["policy_decision_point"] != want || got["access_evaluation_endpoint"] != want+"/access/v1/evaluation" || got["access_evaluations_endpoint"] != want+"/access/v1/evaluations" {
			t.Error(raw)
		}
	}
	for kind, want := range map[string]int{"application/json; charset=utf-8": 200, "text/plain": 400, "": 400} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.http+"/access/v1/evaluation", strings.NewReader(readRecord))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", w.key(w.tenant, "*"))
		req.Header.Set("X-Request-ID", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716")
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("X-Request-Id") != "bfe9eb29-ab87-4ca3-be83-a1d5d8305716" {
			t.Errorf("%q: %d %v %s", kind, resp.StatusCode, resp.Header, body)
		}
	}
}
