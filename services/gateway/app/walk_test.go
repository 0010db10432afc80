package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
)

// public lists the services of the public surface.
var public = []protoreflect.FullName{
	"fulcrum.governance.v1.GovernanceService", "fulcrum.envelope.v1.EnvelopeService", "fulcrum.policy.v1.PolicyService",
	"fulcrum.cost.v1.CostService", "fulcrum.brain.v1.OracleService", "fulcrum.eventstore.v1.EventStoreService", "fulcrum.tenant.v1.TenantService",
	"fulcrum.agent.v1.AgentService", "fulcrum.audit.v1.AuditService", "fulcrum.controlplane.v1.AdminService",
	"fulcrum.wallet.v1.WalletService", "fulcrum.brain.v1.ImmuneSystemService", "fulcrum.ledger.v1.BookkeepingService",
	"fulcrum.policylifecycle.v1.PolicyLifecycleService",
	"fulcrum.controlplane.v1.ToolService", "fulcrum.controlplane.v1.WebhookService", "fulcrum.brain.v1.SemanticJudgeService",
}

func methods(t *testing.T) (all []protoreflect.MethodDescriptor) {
	t.Helper()
	for _, name := range public {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range d.(protoreflect.ServiceDescriptor).Methods().Len() {
			all = append(all, d.(protoreflect.ServiceDescriptor).Methods().Get(i))
		}
	}
	return all
}

func fullName(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// callGRPC calls a method with an empty request and returns the code.
func callGRPC(t *testing.T, g *gateway, m protoreflect.MethodDescriptor, md metadata.MD) codes.Code {
	t.Helper()
	ctx := metadata.NewOutgoingContext(t.Context(), md)
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return status.Code(plain(g.conn.Invoke(ctx, fullName(m), in, out)))
	}
	stream, err := g.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, fullName(m))
	if err != nil {
		return status.Code(plain(err))
	}
	if err := stream.SendMsg(in); err != nil {
		return status.Code(plain(err))
	}
	_ = stream.CloseSend()
	return status.Code(plain(stream.RecvMsg(out)))
}

// callHTTP sends a request and returns the status and the body.
func callHTTP(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// Whatever is registered refuses who shows no key, a key without the scope, or
// a key of somebody who has no business there: by every door.
func TestEveryRouteRefusesByDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	powerless := w.key(w.tenant, "no:such")
	forged := forge(w.key(w.tenant, "*"))
	for _, m := range methods(t) {
		admin := m.Parent().Name() == "AdminService"
		for who, want := range map[string]struct {
			md   metadata.MD
			code codes.Code
			http int
		}{
			"anonymous":     {nil, codes.Unauthenticated, 401},
			"malformed key": {metadata.Pairs("x-api-key", "flcrm_sk_short"), codes.Unauthenticated, 401},
			"unknown key":   {metadata.Pairs("x-api-key", apikey.Generate().Reveal()), codes.Unauthenticated, 401},
			"forged key":    {metadata.Pairs("x-api-key", forged), codes.Unauthenticated, 401},
			"two keys":      {metadata.Pairs("x-api-key", powerless, "authorization", "Bearer "+powerless), codes.Unauthenticated, 401},
			"no scope":      {metadata.Pairs("x-api-key", powerless), codes.PermissionDenied, 403},
			"administrator": {metadata.Pairs("authorization", "Bearer "+adminKey), codes.PermissionDenied, 403},
		} {
			if who == "administrator" && admin {
				continue
			}
			if got := callGRPC(t, g, m, want.md); got != want.code {
				t.Errorf("%s over gRPC as %s: %v, want %v", m.FullName(), who, got, want.code)
			}
			var header []string
			for k, v := range want.md {
				header = append(header, k, v[0])
			}
			if !m.IsStreamingServer() {
				if got, body := callHTTP(t, "POST", g.http+fullName(m), "{}", header...); got != want.http {
					t.Errorf("%s over Connect as %s: %d %s, want %d", m.FullName(), who, got, body, want.http)
				}
			}
			if verb, path := restOf(m); verb != "" {
				for _, prefix := range []string{"", "/api"} {
					if got, body := callHTTP(t, verb, g.http+prefix+path, "{}", header...); got != want.http {
						t.Errorf("%s %s as %s: %d %s, want %d", verb, prefix+path, who, got, body, want.http)
					}
				}
			}
		}
	}
	for path, want := range map[string]int{"/api/v1/cost/record": 401, "/v1/cost/record": 401, "/v1/nothing": 404, "/nothing": 404, "/v1/../v1/envelopes": 400, "/v1//envelopes": 400} {
		if got, body := callHTTP(t, "POST", g.http+path, "{}"); got != want {
			t.Errorf("POST %s: %d %s, want %d", path, got, body, want)
		}
	}
}

// forge keeps a key's id and shows another secret, with a right checksum.
func forge(key string) string {
	other := apikey.Generate().Reveal()
	id := key[len(apikey.Prefix) : len(apikey.Prefix)+12]
	for {
		forged := apikey.Prefix + id + other[len(apikey.Prefix)+12:len(other)-8]
		if k, err := apikey.Parse(forged + checksum(forged[:len(forged)-1])); err == nil {
			return k.Reveal()
		}
		other = apikey.Generate().Reveal()
	}
}

var capture = regexp.MustCompile(`\{[^}]*\}`)

// restOf is the REST form of a method, with some id for each parameter.
func restOf(m protoreflect.MethodDescriptor) (verb, path string) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		verb, path = "GET", p.Get
	case *annotations.HttpRule_Post:
		verb, path = "POST", p.Post
	case *annotations.HttpRule_Patch:
		verb, path = "PATCH", p.Patch
	case *annotations.HttpRule_Put:
		verb, path = "PUT", p.Put
	case *annotations.HttpRule_Delete:
		verb, path = "DELETE", p.Delete
	}
	return verb, capture.ReplaceAllString(path, uuid.NewString())
}

// An id of another tenant and an id of nobody get the same answer.
func TestAnotherTenantsIdsAreNobodysIds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	theirs, err := envelopev1.NewEnvelopeServiceClient(g.conn).CreateEnvelope(as(t, w.key(w.tenant, "*")), &envelopev1.CreateEnvelopeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	decided, err := governanceOf(g).Authorize(as(t, w.key(w.tenant, "*")), toolCall(theirs.GetEnvelope().GetEnvelopeId()))
	if err != nil {
		t.Fatal(err)
	}
	mine := w.key(newTenant(w), "*")
	for _, path := range []string{
		"GET /v1/envelopes/%", "PATCH /v1/envelopes/%/status", "POST /v1/envelopes/%:terminate", "GET /v1/decisions/%",
		"POST /v1/decisions/%:settle", "POST /v1/decisions/%:release", "POST /v1/decisions/%:renew", "PATCH /v1/approvals/%",
	} {
		verb, path, _ := strings.Cut(path, " ")
		body := map[string]string{
			"PATCH /v1/envelopes/%/status": `{"status":"COMPLETED"}`,
			"POST /v1/decisions/%:settle":  `{"outcome":"OUTCOME_SUCCESS","idempotency_key":"k"}`,
			"POST /v1/decisions/%:release": `{"idempotency_key":"k"}`,
			"POST /v1/decisions/%:renew":   `{"idempotency_key":"k","hold_ttl":"60s"}`,
			"PATCH /v1/approvals/%":        `{"status":"APPROVED"}`,
		}[verb+" "+path]
		theirID := theirs.GetEnvelope().GetEnvelopeId()
		if strings.Contains(path, "decisions") {
			theirID = decided.GetDecisionId()
		}
		nobodys := uuid.Must(uuid.NewV7()).String()
		ask := func(id string) (int, string) {
			code, got := callHTTP(t, verb, g.http+strings.ReplaceAll(path, "%", id), body, "x-api-key", mine)
			return code, strings.ReplaceAll(requestIDs.ReplaceAllString(got, ""), id, "ID")
		}
		code, answer := ask(theirID)
		want, same := ask(nobodys)
		if code != 404 || code != want || answer != same {
			t.Errorf("%s %s: %d %s for another tenant's id, %d %s for nobody's", verb, path, code, answer, want, same)
		}
	}
}

var requestIDs = regexp.MustCompile(`"request_id":"[^"]*"`)

// Health answers anybody, and names what it depends on.
func TestHealthNamesItsDependencies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway("AUDIT_URL", "127.0.0.1:1")
	ready(t, g)
	code, body := callHTTP(t, "GET", g.http+"/health", "")
	var is struct {
		Status   string
		Version  string
		Services map[string]string
	}
	if err := json.Unmarshal([]byte(body), &is); err != nil {
		t.Fatal(err)
	}
	if code != 200 || is.Status != "degraded" || is.Services["postgres"] != "ok" || is.Services["redis"] != "ok" || is.Services["audit"] != "unavailable" {
		t.Errorf("%d %s", code, body)
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		if code, body := callHTTP(t, "GET", g.http+path, ""); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// A header that only our own services may send changes nothing.
func TestHeadersOfOurOwnServicesAreIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	other := newTenant(w)
	key := w.key(w.tenant, "*")
	for _, name := range []string{"X-Tenant-Id", "Fulcrum-Principal-Bin", "Fulcrum-Internal-Token", "X_Fulcrum_Tenant"} {
		code, body := callHTTP(t, "POST", g.http+"/v1/envelopes", "{}", "x-api-key", key, name, other.String())
		if code != 200 || !bytes.Contains([]byte(body), []byte(w.tenant.String())) {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
}
