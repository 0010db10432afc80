package app_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	governancev1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1/governancev1connect"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// refusal is what a caller learns of a refused call.
type refusal struct {
	code, reason string
	fields       []string
}

func (r refusal) String() string { return fmt.Sprintf("%s %s %v", r.code, r.reason, r.fields) }

func refusalOf(err error) refusal {
	f, ok := fault.As(err)
	if !ok {
		return refusal{code: code.Code(rpc.PeerCode(err)).String()}
	}
	r := refusal{code: code.Code(rpc.ToStatus(err).Code()).String(), reason: f.Code()}
	for _, v := range f.Violations {
		r.fields = append(r.fields, v.Field)
	}
	slices.Sort(r.fields)
	r.fields = slices.Compact(r.fields)
	return r
}

// ofProblem reads a problem+json.
func ofProblem(t *testing.T, body string) refusal {
	t.Helper()
	var p rpc.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	r := refusal{code: p.Code, reason: p.Reason}
	for _, v := range p.Violations {
		r.fields = append(r.fields, v.Field)
	}
	slices.Sort(r.fields)
	r.fields = slices.Compact(r.fields)
	return r
}

// ofConnect reads a Connect error in JSON.
func ofConnect(t *testing.T, body string) refusal {
	t.Helper()
	var e struct {
		Code    string
		Details []struct{ Type, Value string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	r := refusal{code: strings.ToUpper(e.Code)}
	for _, d := range e.Details {
		raw, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil {
			t.Fatal(err)
		}
		switch d.Type {
		case "google.rpc.ErrorInfo":
			var info errdetails.ErrorInfo
			if err := proto.Unmarshal(raw, &info); err != nil {
				t.Fatal(err)
			}
			r.reason = info.GetReason()
		case "google.rpc.BadRequest":
			var bad errdetails.BadRequest
			if err := proto.Unmarshal(raw, &bad); err != nil {
				t.Fatal(err)
			}
			for _, v := range bad.GetFieldViolations() {
				r.fields = append(r.fields, v.GetField())
			}
		}
	}
	slices.Sort(r.fields)
	r.fields = slices.Compact(r.fields)
	return r
}

// Every door gives the same answer to the same bad request, names what is wrong
// with it, and writes nothing.
func TestAllDoorsRefuseAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key, weak := w.key(w.tenant, "*"), w.key(w.tenant, "policy:read")
	other := newTenant(w)
	used := toolCall("")
	if _, err := governanceOf(g).Authorize(as(t, key), used); err != nil {
		t.Fatal(err)
	}
	before := rowCounts(t, w)

	const authorize = "/fulcrum.governance.v1.GovernanceService/Authorize"
	const create = "/fulcrum.envelope.v1.EnvelopeService/CreateEnvelope"
	const publish = "/fulcrum.eventstore.v1.EventStoreService/PublishEvent"
	const evaluate = "/fulcrum.policy.v1.PolicyService/EvaluatePolicy"
	long := strings.Repeat("x", 300)
	for name, test := range map[string]struct {
		method string
		rest   string // "" if there is none
		msg    proto.Message
		body   string
		key    string
		want   refusal
	}{
		"no credential":  {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{}`, "none", refusal{"UNAUTHENTICATED", "CREDENTIAL_MISSING", nil}},
		"malformed key":  {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{}`, "flcrm_sk_x", refusal{"UNAUTHENTICATED", "API_KEY_MALFORMED", nil}},
		"unknown key":    {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{}`, apikey.Generate().Reveal(), refusal{"UNAUTHENTICATED", "API_KEY_INVALID", nil}},
		"wrong scope":    {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{}`, weak, refusal{"PERMISSION_DENIED", "SCOPE_MISSING", nil}},
		"empty message":  {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{}`, key, refusal{"INVALID_ARGUMENT", "VALIDATION_FAILED", []string{"action", "idempotency_key"}}},
		"unknown tenant": {create, "/envelopes", &envelopev1.CreateEnvelopeRequest{}, `{"tenant_id":"` + uuid.NewString() + `"}`, key, refusal{"PERMISSION_DENIED", "TENANT_MISMATCH", []string{"tenant_id"}}},
		"another tenant": {create, "/envelopes", &envelopev1.CreateEnvelopeRequest{}, `{"tenant_id":"` + other.String() + `"}`, key, refusal{"PERMISSION_DENIED", "TENANT_MISMATCH", []string{"tenant_id"}}},
		"another tenant in an event": {publish, "", &eventstorev1.PublishEventRequest{}, `{"event":{"event_type":"x","tenant_id":"` + other.String() + `"}}`, key,
			refusal{"PERMISSION_DENIED", "TENANT_MISMATCH", []string{"event.tenant_id"}}},
		"another tenant in a context": {evaluate, "/policies/evaluate", &policyv1.EvaluatePolicyRequest{}, `{"context":{"tenant_id":"` + other.String() + `"}}`, key,
			refusal{"PERMISSION_DENIED", "TENANT_MISMATCH", []string{"context.tenant_id"}}},
		"unknown enum value": {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{"action":{"kind":99,"name":"x"},"idempotency_key":"k"}`, key,
			refusal{"INVALID_ARGUMENT", "VALIDATION_FAILED", []string{"action.kind"}}},
		"negative amounts": {authorize, "/authorize", &governancev1.AuthorizeRequest{},
			`{"action":{"kind":1,"name":"x"},"estimate":{"cost_usd":-1,"input_tokens":-5},"idempotency_key":"k"}`, key,
			refusal{"INVALID_ARGUMENT", "VALIDATION_FAILED", []string{"estimate.cost_usd", "estimate.input_tokens"}}},
		"not a number": {authorize, "/authorize", &governancev1.AuthorizeRequest{},
			`{"action":{"kind":1,"name":"x"},"estimate":{"cost_usd":"NaN"},"idempotency_key":"k"}`, key,
			refusal{"INVALID_ARGUMENT", "VALIDATION_FAILED", []string{"estimate.cost_usd"}}},
		"too long": {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{"action":{"kind":1,"name":"` + long + `"},"idempotency_key":"k"}`, key,
			refusal{"INVALID_ARGUMENT", "VALIDATION_FAILED", []string{"action.name"}}},
		"not an id": {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{"envelope_id":"'; drop table","action":{"kind":1,"name":"x"},"idempotency_key":"k"}`, key,
			refusal{"INVALID_ARGUMENT", "VALIDATION_FAILED", []string{"envelope_id"}}},
		"NUL": {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{"action":{"kind":1,"name":"a\u0000b"},"idempotency_key":"k"}`, key,
			refusal{"INVALID_ARGUMENT", "VALIDATION_FAILED", []string{"action.name"}}},
		"unknown envelope": {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{"envelope_id":"` + uuid.NewString() + `","action":{"kind":1,"name":"x"},"idempotency_key":"k"}`, key,
			refusal{"NOT_FOUND", "ENVELOPE_NOT_FOUND", nil}},
		"unknown approval": {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{"approval_id":"` + uuid.NewString() + `","action":{"kind":1,"name":"x"},"idempotency_key":"k"}`, key,
			refusal{"NOT_FOUND", "APPROVAL_NOT_FOUND", nil}},
		"unknown decision": {"/fulcrum.governance.v1.GovernanceService/Settle", "/decisions/0199c0de-0000-7000-8000-000000000009:settle", &governancev1.SettleRequest{},
			`{"decision_id":"0199c0de-0000-7000-8000-000000000009","outcome":1,"idempotency_key":"k"}`, key, refusal{"NOT_FOUND", "DECISION_NOT_FOUND", nil}},
		"reused key": {authorize, "/authorize", &governancev1.AuthorizeRequest{}, `{"action":{"kind":1,"name":"other"},"idempotency_key":"` + used.GetIdempotencyKey() + `"}`, key,
			refusal{"ABORTED", "IDEMPOTENCY_KEY_REUSED", []string{"idempotency_key"}}},
		"a peer's fault": {"/fulcrum.policy.v1.PolicyService/GetPolicy", "GET /policies/0199c0de-0000-7000-8000-000000000009", &policyv1.GetPolicyRequest{},
			`{"policy_id":"0199c0de-0000-7000-8000-000000000009"}`, key, refusal{"NOT_FOUND", "POLICY_NOT_FOUND", nil}},
		"not served": {"/fulcrum.policy.v1.PolicyService/DeletePolicy", "DELETE /policies/0199c0de-0000-7000-8000-000000000009", &policyv1.DeletePolicyRequest{},
			`{"policy_id":"0199c0de-0000-7000-8000-000000000009"}`, key, refusal{code: "UNIMPLEMENTED"}},
	} {
		t.Run(name, func(t *testing.T) {
			msg := proto.Clone(test.msg)
			if err := protojson.Unmarshal([]byte(test.body), msg); err != nil {
				t.Fatal(err)
			}
			var header []string
			ctx := t.Context()
			if test.key != "none" {
				header = []string{"x-api-key", test.key}
				ctx = metadata.AppendToOutgoingContext(ctx, header...)
			}
			same := func(door string, got refusal) {
				t.Helper()
				if test.want.reason == "" {
					got.reason = ""
				}
				if !strings.EqualFold(got.String(), test.want.String()) {
					t.Errorf("%s: %v, want %v", door, got, test.want)
				}
			}
			same("gRPC", refusalOf(g.conn.Invoke(ctx, test.method, msg, replyTo(t, test.method))))
			_, body := callHTTP(t, "POST", g.http+test.method, test.body, header...)
			same("Connect", ofConnect(t, body))
			if test.rest != "" {
				verb, path, ok := strings.Cut(test.rest, " ")
				if !ok {
					verb, path = "POST", test.rest
				}
				for _, prefix := range []string{"/v1", "/api/v1"} {
					_, body := callHTTP(t, verb, g.http+prefix+path, test.body, header...)
					same("REST "+prefix, ofProblem(t, body))
				}
			}
		})
	}
	if after := rowCounts(t, w); after != before {
		t.Errorf("something was written: %s, before %s", after, before)
	}
}

func replyTo(t *testing.T, method string) proto.Message {
	t.Helper()
	for _, m := range methods(t) {
		if fullName(m) == method {
			return newDynamic(m.Output())
		}
	}
	t.Fatalf("no method %s", method)
	return nil
}

// rowCounts is the number of rows of everything the gateway writes, except for
// the events that somebody tried an approval of nobody's.
func rowCounts(t *testing.T, w *world) string {
	t.Helper()
	var counts []string
	for _, table := range []string{"envelopes", "decisions", "idempotency_keys", "approvals", "approval_votes", "outbox where type <> 'approval_refused'"} {
		counts = append(counts, fmt.Sprintf("%s=%d", table, dbtest.Count(t, w.db, `select count(*) from fulcrum.`+table)))
	}
	return strings.Join(counts, " ")
}

// JSON that two parsers could read differently is not read at all, and the
// answer says what is wrong and where.
func TestJSONIsReadInOneWayOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "*")
	before := rowCounts(t, w)
	for name, test := range map[string]struct{ body, field string }{
		"duplicate key":           {`{"workflow_id":"a","workflow_id":"b"}`, "workflow_id"},
		"duplicate by other name": {`{"workflow_id":"a","workflowId":"b"}`, "workflowId"},
		"duplicate map key":       {`{"metadata":{"a":"1","a":"2"}}`, "a"},
		"unknown field":           {`{"surprise":1}`, "surprise"},
		"case twin":               {`{"TENANT_ID":"x"}`, "TENANT_ID"},
		"second document":         {`{} {}`, "body"},
		"trailing text":           {`{}x`, "body"},
		"byte order mark":         {"\ufeff{}", "body"},
		"invalid UTF-8":           {"{\"workflow_id\":\"\xff\"}", "body"},
		"lone surrogate":          {`{"workflow_id":"\ud800"}`, "body"},
		"too large a number":      {`{"governance":{"cost_limit_usd":1e400}}`, "cost_limit_usd"},
		"not an integer":          {`{"governance":{"token_budget":1.5}}`, "token_budget"},
		"beyond int64":            {`{"governance":{"token_budget":9223372036854775808}}`, "token_budget"},
		"not an object":           {`[]`, "body"},
		"cut off":                 {`{"workflow_id":`, "body"},
		"too deep":                {strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), "a"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := callHTTP(t, "POST", g.http+"/v1/envelopes", test.body, "x-api-key", key)
			got := ofProblem(t, body)
			if status != 400 || got.code != "INVALID_ARGUMENT" || got.reason != "REQUEST_MALFORMED" || len(got.fields) != 1 || got.fields[0] != test.field {
				t.Errorf("REST: %d %v: %s", status, got, body)
			}
			status, body = callHTTP(t, "POST", g.http+"/fulcrum.envelope.v1.EnvelopeService/CreateEnvelope", test.body, "x-api-key", key)
			if got := ofConnect(t, body); status != 400 || got.code != "INVALID_ARGUMENT" {
				t.Errorf("Connect: %d %v: %s", status, got, body)
			}
		})
	}
	if after := rowCounts(t, w); after != before {
		t.Errorf("something was written: %s, before %s", after, before)
	}
	for _, body := range []string{`{"workflow_id":"a","agentId":"b"}`, `{}`, ` `, ``} {
		if status, got := callHTTP(t, "POST", g.http+"/api/v1/envelopes", body, "x-api-key", key); status != 200 || !strings.Contains(got, `"envelope_id":`) {
			t.Errorf("%q: %d %s", body, status, got)
		}
	}
}

// A message over the limit is refused before it is read, by every door.
func TestOversizedMessagesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "*")
	before := rowCounts(t, w)
	big := toolCall("")
	big.Attributes = map[string]string{"x": strings.Repeat("x", rpc.MaxMessage+1)}
	err := g.conn.Invoke(as(t, key), "/fulcrum.governance.v1.GovernanceService/Authorize", big, &governancev1.AuthorizeResponse{})
	if got := refusalOf(err); got.code != "RESOURCE_EXHAUSTED" {
		t.Errorf("gRPC: %v", err)
	}
	body := `{"attributes":{"x":"` + strings.Repeat("x", rpc.MaxMessage+1) + `"}}`
	if status, got := callHTTP(t, "POST", g.http+"/v1/authorize", body, "x-api-key", key); status != http.StatusRequestEntityTooLarge || ofProblem(t, got).reason != "MESSAGE_TOO_LARGE" {
		t.Errorf("REST: %d %.200s", status, got)
	}
	if status, got := callHTTP(t, "POST", g.http+"/fulcrum.governance.v1.GovernanceService/Authorize", body, "x-api-key", key); status != 429 || ofConnect(t, got).code != "RESOURCE_EXHAUSTED" {
		t.Errorf("Connect: %d %.200s", status, got)
	}
	if after := rowCounts(t, w); after != before {
		t.Errorf("something was written: %s, before %s", after, before)
	}
}

// Connect, gRPC-Web and gRPC over HTTP serve the same, streams too.
func TestConnectClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key, person := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	h2c := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	show := connect.WithInterceptors(showing{key})
	for name, client := range map[string]governancev1connect.GovernanceServiceClient{
		"connect":      governancev1connect.NewGovernanceServiceClient(http.DefaultClient, g.http, show),
		"connect json": governancev1connect.NewGovernanceServiceClient(http.DefaultClient, g.http, show, connect.WithProtoJSON()),
		"grpc-web":     governancev1connect.NewGovernanceServiceClient(http.DefaultClient, g.http, show, connect.WithGRPCWeb()),
		"grpc":         governancev1connect.NewGovernanceServiceClient(h2c, g.http, show, connect.WithGRPC()),
	} {
		t.Run(name, func(t *testing.T) {
			w.engine.decides(allowed)
			if resp, err := client.Authorize(t.Context(), toolCall("")); err != nil || resp.GetDecision() != allowed {
				t.Fatal(resp, err)
			}
			_, err := client.Authorize(t.Context(), &governancev1.AuthorizeRequest{})
			var failed *connect.Error
			if !errors.As(err, &failed) || failed.Code() != connect.CodeInvalidArgument || len(failed.Details()) != 2 {
				t.Errorf("invalid: %v", err)
			}
			w.engine.decides(asks)
			req := toolCall("")
			id := askFor(t, g, key, req)
			stream, err := client.WaitForApproval(t.Context(), &governancev1.WaitForApprovalRequest{ApprovalId: id})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if !stream.Receive() || stream.Msg().GetState() != governancev1.ApprovalState_APPROVAL_STATE_PENDING {
				t.Fatal(stream.Msg(), stream.Err())
			}
			if _, err := review(t, g, person, id, "APPROVED"); err != nil {
				t.Fatal(err)
			}
			if !stream.Receive() || stream.Msg().GetState() != governancev1.ApprovalState_APPROVAL_STATE_APPROVED {
				t.Fatal(stream.Msg(), stream.Err())
			}
			if stream.Receive() || stream.Err() != nil {
				t.Error(stream.Msg(), stream.Err())
			}
		})
	}
}

// showing puts an API key on every call.
type showing struct{ key string }

func (s showing) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+s.key)
		return next(ctx, req)
	}
}

func (s showing) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+s.key)
		return conn
	}
}

func (s showing) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
