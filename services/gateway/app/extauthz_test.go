package app_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// held is a request as Envoy holds it up and asks about it.
func held(key string, change ...func(*authv3.AttributeContext)) *authv3.CheckRequest {
	a := &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Principal: "spiffe://mesh/agent", Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "10.0.0.7", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000}},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: "POST", Path: "/v1/refunds?order=7", Host: "shop.internal", Scheme: "https", Protocol: "HTTP/2", Size: -1,
			Headers: map[string]string{":authority": "shop.internal", ":method": "POST", ":path": "/v1/refunds?order=7", "content-type": "application/json",
				"content-length": "14", "user-agent": "agent/1", "authorization": "Bearer " + key, "cookie": "session=secret"},
			Body: `{"amount": 12}`,
		}},
		ContextExtensions: map[string]string{"fulcrum.kind": "TOOL_CALL", "fulcrum.name": "refund", "fulcrum.cost_usd": "0.5"},
	}
	for _, f := range change {
		f(a)
	}
	return &authv3.CheckRequest{Attributes: a}
}

func askEnvoy(t *testing.T, g *gateway, req *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	resp, err := authv3.NewAuthorizationClient(g.conn).Check(t.Context(), req)
	if err != nil {
		t.Fatalf("an error, which a proxy may take for a yes: %v", err)
	}
	return resp
}

func header(options []*corev3.HeaderValueOption, name string) string {
	for _, o := range options {
		if o.GetHeader().GetKey() == name {
			return o.GetHeader().GetValue()
		}
	}
	return ""
}

// A request that a proxy holds up is an action like any other.
func TestAProxysRequestIsADecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"envelope:write"}, AgentID: "agent-1"})
	claims := func(a *authv3.AttributeContext) {
		for _, name := range []string{"x-tenant-id", "x-fulcrum-agent", "fulcrum-principal-bin", "x-fulcrum-decision-id", "x-fulcrum-reservation-id"} {
			a.Request.Http.Headers[name] = uuid.NewString()
		}
	}
	resp := askEnvoy(t, g, held(key, claims))
	ok := resp.GetOkResponse()
	if resp.GetStatus().GetCode() != int32(codes.OK) || ok == nil {
		t.Fatalf("%v", resp)
	}
	id := header(ok.GetHeaders(), "x-fulcrum-decision-id")
	one, err := governanceOf(g).GetDecision(as(t, w.key(w.tenant, "audit:read")), &governancev1.GetDecisionRequest{DecisionId: id})
	if err != nil {
		t.Fatal(err)
	}
	d := one.GetDecision()
	if d.GetAgentId() != "agent-1" || d.GetAction().GetName() != "refund" || d.GetAction().GetArguments().GetFields()["amount"].GetNumberValue() != 12 ||
		d.GetAction().GetResource() != "https://shop.internal/v1/refunds?order=7" || d.GetEstimate().GetCostUsd() != 0.5 {
		t.Errorf("recorded: %v", d)
	}
	for name, want := range map[string]string{"http.method": "POST", "http.path": "/v1/refunds", "http.host": "shop.internal", "http.query": "order=7",
		"http.header.user-agent": "agent/1", "source.principal": "spiffe://mesh/agent", "source.address": "10.0.0.7", "http.header.cookie": "", "http.header.authorization": ""} {
		if got := d.GetAttributes()[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	reservation := d.GetResponse().GetHold().GetReservationId()
	if header(ok.GetHeaders(), "x-fulcrum-reservation-id") != reservation || reservation == "" || resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue() != id {
		t.Errorf("answer: %v", resp)
	}
	for _, name := range []string{"authorization", "x-tenant-id", "x-fulcrum-agent", "fulcrum-principal-bin"} {
		if !slices.Contains(ok.GetHeadersToRemove(), name) {
			t.Errorf("%s goes on to the upstream", name)
		}
	}
	for _, o := range ok.GetHeaders() {
		if slices.Contains(ok.GetHeadersToRemove(), o.GetHeader().GetKey()) || o.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s does not reach the upstream as set", o.GetHeader().GetKey())
		}
	}
	// What is not let through as it is, is not let through.
	w.engine.decides(allowed, func(r *policyenginev1.EvaluateResponse) {
		r.Obligations = []*governancev1.Obligation{{Type: "REDIRECT"}, {Type: "LIMIT", Parameters: parameters{"parallel": "1", "by": "tenant", "rule_id": "r"}}}
	})
	if resp := askEnvoy(t, g, held(key)); resp.GetDeniedResponse().GetStatus().GetCode() != 403 || w.ledger.count("HELD") != 1 || w.ledger.count("RELEASED") != 1 {
		t.Errorf("an obligation: %v", resp)
	}
	// Its place comes back, whether or not money was held with it.
	w.ledger.reserves(func(*budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		return &budgetv1.ReserveResponse{Granted: true}, nil
	})
	askEnvoy(t, g, held(key))
	if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.limit_entries`); n != 0 {
		t.Errorf("%d places were not given back", n)
	}
}

// A denial answers in the upstream's place, with reasons.
func TestAProxysDenialSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "envelope:write")
	for d, want := range map[governancev1.Decision]string{denied: "DECISION_DENY", asks: "DECISION_REQUIRE_APPROVAL"} {
		w.engine.decides(d)
		resp := askEnvoy(t, g, held(key))
		no := resp.GetDeniedResponse()
		var body struct {
			DecisionID string `json:"decision_id"`
			Decision   string
			Reasons    []struct{ Message string }
			Approval   struct {
				ID string `json:"approval_id"`
			}
		}
		if err := json.Unmarshal([]byte(no.GetBody()), &body); err != nil {
			t.Fatal(no, err)
		}
		if no.GetStatus().GetCode() != 403 || resp.GetStatus().GetCode() == 0 || body.Decision != want || body.DecisionID == "" ||
			len(body.Reasons) != 1 || body.Reasons[0].Message != "because of a rule" || (body.Approval.ID != "") != (d == asks) {
			t.Errorf("%v", resp)
		}
	}
	w.engine.decides(allowed, func(r *policyenginev1.EvaluateResponse) {
		r.Obligations = []*governancev1.Obligation{{Type: "THROTTLE", Parameters: map[string]string{"per_day": "1", "policy_id": "p", "rule_id": "r"}}}
	})
	askEnvoy(t, g, held(key))
	if no := askEnvoy(t, g, held(key)).GetDeniedResponse(); no.GetStatus().GetCode() != 429 || header(no.GetHeaders(), "retry-after") == "" {
		t.Errorf("a rate: %v", no)
	}
}

// Whatever is wrong, the request does not go through, and the agent hears what
// every other door would have said.
func TestAProxysRequestFailsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "envelope:write")
	theirs, err := governanceOf(g).Authorize(as(t, w.key(newTenant(w), "*")), &governancev1.AuthorizeRequest{
		Envelope: &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{}}, Action: toolCall("").GetAction(), IdempotencyKey: "k",
	})
	if err != nil {
		t.Fatal(err)
	}
	before := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions`)
	http := func(f func(*authv3.AttributeContext_HttpRequest)) func(*authv3.AttributeContext) {
		return func(a *authv3.AttributeContext) { f(a.GetRequest().GetHttp()) }
	}
	set := func(name, value string) func(*authv3.AttributeContext) {
		return http(func(h *authv3.AttributeContext_HttpRequest) { h.Headers[name] = value })
	}
	body := func(b string) func(*authv3.AttributeContext) {
		return http(func(h *authv3.AttributeContext_HttpRequest) { h.Body = b; delete(h.Headers, "content-length") })
	}
	extension := func(name, value string) func(*authv3.AttributeContext) {
		return func(a *authv3.AttributeContext) { a.ContextExtensions[name] = value }
	}
	for name, tt := range map[string]struct {
		req    *authv3.CheckRequest
		status int32
		says   string
	}{
		"nothing at all":            {&authv3.CheckRequest{}, 401, "CREDENTIAL_MISSING"},
		"anonymous":                 {held(key, http(func(h *authv3.AttributeContext_HttpRequest) { delete(h.Headers, "authorization") })), 401, "CREDENTIAL_MISSING"},
		"two keys":                  {held(key, set("x-api-key", key)), 401, "CREDENTIAL_AMBIGUOUS"},
		"a forged key":              {held(forge(key)), 401, ""},
		"joined keys":               {held(key, set("authorization", "Bearer "+key+",Bearer "+key)), 401, ""},
		"another scope":             {held(w.key(w.tenant, "policy:read")), 403, "SCOPE_MISSING"},
		"another tenant's envelope": {held(key, set("fulcrum-envelope-id", theirs.GetEnvelopeId())), 404, ""},
		"an envelope that is none":  {held(key, set("fulcrum-envelope-id", "x")), 400, "envelope_id"},
		"malformed JSON":            {held(key, body(`{"amount":`)), 400, "body"},
		"a key twice":               {held(key, body(`{"amount":1,"amount":2}`)), 400, "body"},
		"NUL":                       {held(key, body(`{"amount":"\u0000"}`)), 400, "NUL"},
		"half a body":               {held(key, set("x-envoy-auth-partial-body", "true")), 413, "MESSAGE_TOO_LARGE"},
		"less than it said":         {held(key, set("content-length", "15")), 413, "MESSAGE_TOO_LARGE"},
		"a large body":              {held(key, body(`{"amount":"`+strings.Repeat("9", 256<<10)+`"}`)), 413, "MESSAGE_TOO_LARGE"},
		"a long path":               {held(key, http(func(h *authv3.AttributeContext_HttpRequest) { h.Path = "/" + strings.Repeat("x", 5000) })), 400, "resource"},
		"a path to be cleaned":      {held(key, http(func(h *authv3.AttributeContext_HttpRequest) { h.Path = "/open/../v1/refunds" })), 400, "PATH_MALFORMED"},
		"an encoded slash":          {held(key, http(func(h *authv3.AttributeContext_HttpRequest) { h.Path = "/open%2f..%2fv1" })), 400, "PATH_MALFORMED"},
		"not HTTP":                  {held(key, func(a *authv3.AttributeContext) { a.Request.Http.Path = "" }), 400, "PATH_MALFORMED"},
		"an unknown setting":        {held(key, extension("fulcrum.nmae", "x")), 503, "ROUTE_MISCONFIGURED"},
		"an unknown kind":           {held(key, extension("fulcrum.kind", "WISH")), 503, "ROUTE_MISCONFIGURED"},
		"a price that is none":      {held(key, extension("fulcrum.cost_usd", "NaN")), 503, "ROUTE_MISCONFIGURED"},
		"a secret as a fact":        {held(key, extension("fulcrum.headers", "cookie")), 503, "ROUTE_MISCONFIGURED"},
	} {
		resp := askEnvoy(t, g, tt.req)
		no := resp.GetDeniedResponse()
		if resp.GetStatus().GetCode() == 0 || int32(no.GetStatus().GetCode()) != tt.status || !strings.Contains(no.GetBody(), tt.says) {
			t.Errorf("%s: %v, want %d %s", name, resp, tt.status, tt.says)
		}
	}
	if after := dbtest.Count(t, w.db, `select count(*) from fulcrum.decisions`); after != before {
		t.Errorf("%d decisions of refused requests", after-before)
	}
	limited := w.gateway("GATEWAY_KEY_RATE", "1")
	ready(t, limited)
	var over atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			resp, err := authv3.NewAuthorizationClient(limited.conn).Check(t.Context(), held(key))
			if no := resp.GetDeniedResponse(); err == nil && no.GetStatus().GetCode() == 429 && header(no.GetHeaders(), "retry-after") != "" {
				over.Add(1)
			}
		})
	}
	all.Wait()
	if over.Load() == 0 {
		t.Error("twenty calls at once, where one a second is allowed")
	}
	adminExec(t, w, `alter database "`+w.db.Name+`" with allow_connections false`)
	adminExec(t, w, `select pg_terminate_backend(pid) from pg_stat_activity where datname = '`+w.db.Name+`'`)
	if no := askEnvoy(t, g, held(key)).GetDeniedResponse(); no.GetStatus().GetCode() != 503 || header(no.GetHeaders(), "retry-after") == "" {
		t.Errorf("without a database: %v", no)
	}
	adminExec(t, w, `alter database "`+w.db.Name+`" with allow_connections true`)
}

// Envoy may send headers raw, and bodies that are no JSON or none at all.
func TestProxiesSpeakInSeveralWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "*")
	raw := func(a *authv3.AttributeContext) {
		h := a.GetRequest().GetHttp()
		h.HeaderMap = &corev3.HeaderMap{}
		for k, v := range h.GetHeaders() {
			h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: k, RawValue: []byte(v)})
		}
		h.Headers = nil
	}
	as := func(contentType string, body []byte) func(*authv3.AttributeContext) {
		return func(a *authv3.AttributeContext) {
			h := a.GetRequest().GetHttp()
			h.Headers["content-type"], h.Body, h.RawBody = contentType, "", body
			delete(h.Headers, "content-length")
		}
	}
	for name, tt := range map[string]struct {
		req  *authv3.CheckRequest
		want string
	}{
		"raw headers": {held(key, raw), `{"amount":12}`},
		"text":        {held(key, as("text/plain", []byte("refund 12"))), `{"body":"refund 12","body_bytes":9}`},
		"bytes":       {held(key, as("application/octet-stream", []byte{0xff, 0xfe})), `{"body_bytes":2}`},
		"a list":      {held(key, as("application/json", []byte(`[1]`))), `{"body":[1]}`},
		"no body":     {held(key, as("", nil)), `null`},
		"looked away": {held(key, func(a *authv3.AttributeContext) { a.ContextExtensions["fulcrum.body"] = "ignore" }), `null`},
	} {
		if resp := askEnvoy(t, g, tt.req); resp.GetOkResponse() == nil {
			t.Errorf("%s: %v", name, resp)
			continue
		}
		args := w.engine.asked[len(w.engine.asked)-1].GetFacts().GetAction().GetArguments()
		got := "null"
		if args != nil {
			text, err := json.Marshal(args.AsMap())
			if err != nil {
				t.Fatal(err)
			}
			got = string(text)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	plain := held(key, func(a *authv3.AttributeContext) { a.ContextExtensions = map[string]string{"another": "filter's"} })
	askEnvoy(t, g, plain)
	if a := w.engine.asked[len(w.engine.asked)-1].GetFacts().GetAction(); a.GetName() != "http.post" || a.GetKind() != governancev1.ActionKind_ACTION_KIND_OTHER {
		t.Errorf("a route without a name: %v", a)
	}
	llm := held(key, as("application/json", []byte(`{"model":"gpt-4o","messages":[]}`)), func(a *authv3.AttributeContext) {
		a.ContextExtensions = map[string]string{"fulcrum.kind": "LLM_CALL"}
	})
	askEnvoy(t, g, llm)
	if f := w.engine.asked[len(w.engine.asked)-1].GetFacts(); f.GetModelId() != "gpt-4o" || f.GetAction().GetName() != "gpt-4o" {
		t.Errorf("a model call: %v", f)
	}
}
