package e2e

import (
	"fmt"
	"hash/crc32"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// refusal is a call that no door lets pass.
type refusal struct {
	name   string
	key    string
	method string // Authorize if empty
	req    proto.Message
	code   codes.Code
	reason string
	fields []string
	status int // of HTTP, over REST
}

// Whatever is refused is refused by every door with the same code, for the same
// reason, and leaves nothing behind.
func TestAllDoorsRefuseAlike(t *testing.T) {
	t.Parallel()
	tenant, other := stack.Tenant(t, "refused"), stack.Tenant(t, "somebody else")
	tenant.Budget(t, &costv1.Budget{Name: "all", Limits: &costv1.BudgetLimits{MaxToolCalls: 1000}})
	db := stack.Database(t)
	cases := refusals(t, tenant, other)

	before := leftBehind(t, db, tenant.ID)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, d := range doors() {
				a, err := d.Call(t.Context(), c.key, c.method, c.req)
				if err != nil {
					t.Error(err)
					continue
				}
				slices.Sort(a.Fields)
				a.Fields = slices.Compact(a.Fields) // one may be wrong in two ways
				type answer struct {
					Code   string
					Reason string
					Fields []string
				}
				want := answer{c.code.String(), c.reason, c.fields}
				got := answer{a.Code.String(), a.Reason, a.Fields}
				if c.reason == "" { // refused before anything of ours saw it
					got.Reason = ""
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s%s", d.Name, diff, a.Message)
				}
				if strings.HasPrefix(d.Name, "REST") && a.Status != c.status {
					t.Errorf("%s answers HTTP %d, want %d", d.Name, a.Status, c.status)
				}
			}
		})
	}
	if diff := cmp.Diff(before, leftBehind(t, db, tenant.ID)); diff != "" {
		t.Errorf("the refused calls left something behind (-before +after):\n%s", diff)
	}
}

func refusals(t *testing.T, tenant, other *running.Tenant) []refusal {
	t.Helper()
	agent := tenant.Agent(t, "bot")
	reader := tenant.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "reader", Scopes: []string{"policy:read"}})
	revoked := revokedKey(t, tenant)
	foreign, err := other.Owner.Governance.Authorize(t.Context(), running.Inline("theirs", running.Tool("search")))
	if err != nil {
		t.Fatal(err)
	}
	used := running.Inline("refused", running.Tool("search"))
	if _, err := agent.Governance.Authorize(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*governancev1.AuthorizeRequest)) *governancev1.AuthorizeRequest {
		req := running.Inline("refused", running.Tool("search"))
		change(req)
		return req
	}
	good := with(func(*governancev1.AuthorizeRequest) {})

	list := []refusal{
		{name: "no credential", req: good, code: codes.Unauthenticated, reason: "CREDENTIAL_MISSING", status: http.StatusUnauthorized},
		{name: "a malformed key", key: "flcrm_sk_made_up", req: good, code: codes.Unauthenticated, reason: "API_KEY_MALFORMED", status: http.StatusUnauthorized},
		{name: "a key with a wrong character", key: mistyped(agent.Key), req: good, code: codes.Unauthenticated, reason: "API_KEY_MALFORMED", status: http.StatusUnauthorized},
		{name: "a key that nobody has", key: madeUp(), req: good, code: codes.Unauthenticated, reason: "API_KEY_INVALID", status: http.StatusUnauthorized},
		{name: "a revoked key", key: revoked, req: good, code: codes.Unauthenticated, reason: "API_KEY_INVALID", status: http.StatusUnauthorized},
		{name: "the administrator's key", key: stack.AdminKey, req: good, code: codes.PermissionDenied, reason: "ADMIN_HAS_NO_TENANT", status: http.StatusForbidden},
		{name: "a wrong scope", key: reader.Key, req: good, code: codes.PermissionDenied, reason: "SCOPE_MISSING", status: http.StatusForbidden},
		{name: "another tenant's envelope", key: agent.Key, req: running.In(foreign.GetEnvelopeId(), running.Tool("search")),
			code: codes.NotFound, reason: "ENVELOPE_NOT_FOUND", status: http.StatusNotFound},
		{name: "another tenant's name", key: agent.Key, method: policyv1.PolicyService_EvaluatePolicy_FullMethodName,
			req:  &policyv1.EvaluatePolicyRequest{Context: &policyv1.EvaluationContext{TenantId: other.ID}},
			code: codes.PermissionDenied, reason: "TENANT_MISMATCH", fields: []string{"context.tenant_id"}, status: http.StatusForbidden},
		{name: "a message beyond 4 MB", key: agent.Key, req: with(func(r *governancev1.AuthorizeRequest) { r.Action.InputText = strings.Repeat("x", 5<<20) }),
			code: codes.ResourceExhausted, status: http.StatusRequestEntityTooLarge},
		{name: "a used idempotency key with another body", key: agent.Key, req: with(func(r *governancev1.AuthorizeRequest) {
			r.IdempotencyKey = used.GetIdempotencyKey()
			r.Action.Name = "other"
		}),
			code: codes.Aborted, reason: "IDEMPOTENCY_KEY_REUSED", fields: []string{"idempotency_key"}, status: http.StatusConflict},
	}
	for name, c := range map[string]struct {
		field string
		req   *governancev1.AuthorizeRequest
	}{
		"an unknown enum value": {"action.kind", with(func(r *governancev1.AuthorizeRequest) { r.Action.Kind = 99 })},
		"a negative amount":     {"estimate.cost_usd", with(func(r *governancev1.AuthorizeRequest) { r.Estimate = &governancev1.Estimate{CostUsd: -1} })},
		"an amount that is no number": {"estimate.cost_usd", with(func(r *governancev1.AuthorizeRequest) {
			r.Estimate = &governancev1.Estimate{CostUsd: math.NaN()}
		})},
		"an infinite amount":  {"estimate.cost_usd", with(func(r *governancev1.AuthorizeRequest) { r.Estimate = &governancev1.Estimate{CostUsd: math.Inf(1)} })},
		"negative tokens":     {"estimate.input_tokens", with(func(r *governancev1.AuthorizeRequest) { r.Estimate = &governancev1.Estimate{InputTokens: -1} })},
		"no action":           {"action", with(func(r *governancev1.AuthorizeRequest) { r.Action = nil })},
		"no idempotency key":  {"idempotency_key", with(func(r *governancev1.AuthorizeRequest) { r.IdempotencyKey = "" })},
		"an id that is none":  {"approval_id", with(func(r *governancev1.AuthorizeRequest) { r.ApprovalId = "1 or 1=1" })},
		"text with a NUL":     {"action.name", with(func(r *governancev1.AuthorizeRequest) { r.Action.Name = "a\x00b" })},
		"text beyond 1 MB":    {"action.input_text", with(func(r *governancev1.AuthorizeRequest) { r.Action.InputText = strings.Repeat("x", 1<<20+1) })},
		"too long a tool":     {"action.name", with(func(r *governancev1.AuthorizeRequest) { r.Action.Name = strings.Repeat("x", 257) })},
		"nobody's user roles": {"principal.roles", with(func(r *governancev1.AuthorizeRequest) { r.Principal = &governancev1.EndUser{Roles: make([]string, 65)} })},
	} {
		list = append(list, refusal{name: name, key: agent.Key, req: c.req, code: codes.InvalidArgument, reason: "VALIDATION_FAILED",
			fields: []string{c.field}, status: http.StatusBadRequest})
	}
	for i := range list {
		if list[i].method == "" {
			list[i].method = governancev1.GovernanceService_Authorize_FullMethodName
		}
	}
	return list
}

// What a JSON parser could read in more than one way is not read at all.
func TestAmbiguousJSONIsRefused(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "ambiguous")
	agent := tenant.Agent(t, "bot")
	db := stack.Database(t)
	before := leftBehind(t, db, tenant.ID)
	for name, body := range map[string]string{
		"an unknown enum name":     `{"action":{"kind":"NO_SUCH_KIND","name":"x"},"idempotency_key":"a"}`,
		"the same key twice":       `{"action":{"kind":1,"name":"x"},"idempotency_key":"a","idempotency_key":"b"}`,
		"both spellings of a key":  `{"action":{"kind":1,"name":"x"},"idempotency_key":"a","idempotencyKey":"b"}`,
		"two documents":            `{"action":{"kind":1,"name":"x"},"idempotency_key":"a"} {}`,
		"a number beyond doubles":  `{"action":{"kind":1,"name":"x"},"estimate":{"cost_usd":1e400},"idempotency_key":"a"}`,
		"a fraction of a token":    `{"action":{"kind":1,"name":"x"},"estimate":{"input_tokens":1.5},"idempotency_key":"a"}`,
		"an integer beyond 64 bit": `{"action":{"kind":1,"name":"x"},"estimate":{"input_tokens":9223372036854775808},"idempotency_key":"a"}`,
		"text for a message":       `{"action":"drop","idempotency_key":"a"}`,
		"invalid UTF-8":            "{\"action\":{\"kind\":1,\"name\":\"\xff\"},\"idempotency_key\":\"a\"}",
		"nested without end":       `{"action":{"kind":1,"name":"x","arguments":{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}},"idempotency_key":"a"}`,
		"an array":                 `[]`,
		"cut short":                `{"action":{"kind":1`,
		"a byte order mark":        "\ufeff" + `{"action":{"kind":1,"name":"x"},"idempotency_key":"a"}`,
	} {
		for _, path := range []string{"/v1/authorize", "/api/v1/authorize", governancev1.GovernanceService_Authorize_FullMethodName} {
			t.Run(name+" at "+path, func(t *testing.T) {
				resp, text := request(t, http.MethodPost, path, agent.Key, body)
				if resp.StatusCode != http.StatusBadRequest {
					t.Errorf("HTTP %s: %.300s", resp.Status, text)
				}
			})
		}
	}
	if diff := cmp.Diff(before, leftBehind(t, db, tenant.ID)); diff != "" {
		t.Errorf("the refused calls left something behind (-before +after):\n%s", diff)
	}
}

// leftBehind counts what calls leave in the database. Events are counted on
// their way and where they end up; that a known key was refused is one by right.
func leftBehind(t *testing.T, db *running.Database, tenant string) map[string]int64 {
	t.Helper()
	left := map[string]int64{}
	for _, table := range []string{"decisions", "reservations", "settlements", "ledger_entries", "envelopes", "approvals", "idempotency_keys"} {
		left[table] = db.Count(t, "select count(*) from fulcrum."+table+" where tenant_id = $1", tenant)
	}
	left["events"] = db.Count(t, `select count(*) from (
		select event_id from fulcrum.outbox where tenant_id = $1 and stream = 1 and type not like 'api_key%' union
		select event_id from fulcrum.events where tenant_id = $1 and type not like 'api_key%') e`, tenant)
	return left
}

// revokedKey is a key that worked and does not any more, anywhere.
func revokedKey(t *testing.T, tenant *running.Tenant) string {
	t.Helper()
	c, id := tenant.IssueKey(t, &controlplanev1.IssueApiKeyRequest{Name: "revoked", Scopes: []string{"*"}})
	if _, err := c.Policies.ListPolicies(t.Context(), &policyv1.ListPoliciesRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := tenant.Owner.Keys.RevokeApiKey(t.Context(), &tenantv1.RevokeApiKeyRequest{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	awaitRefused(t, c)
	return c.Key
}

// mistyped is a key with one other character: its checksum is wrong.
func mistyped(key string) string {
	at := len("flcrm_sk_") + 20
	with := byte('A')
	if key[at] == with {
		with = 'B'
	}
	return key[:at] + string(with) + key[at+1:]
}

// madeUp is a well-formed key that was never issued.
func madeUp() string {
	body := "flcrm_sk_000000000000_" + strings.Repeat("A", 43)
	return fmt.Sprintf("%s_%08x", body, crc32.ChecksumIEEE([]byte(body)))
}
