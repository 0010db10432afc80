package door_test

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/api"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/door"
)

// registrar notes what is registered.
type registrar struct{ methods []string }

func (r *registrar) RegisterService(d *grpc.ServiceDesc, _ any) {
	for _, m := range d.Methods {
		r.methods = append(r.methods, "/"+d.ServiceName+"/"+m.MethodName)
	}
	for _, s := range d.Streams {
		r.methods = append(r.methods, "/"+d.ServiceName+"/"+s.StreamName)
	}
}

// A method that is registered and has no route could be called by nobody; a
// route without a method is a leftover.
func TestRoutesAreTheRegisteredMethods(t *testing.T) {
	t.Parallel()
	var r registrar
	api.Services{
		Governance: &api.Governance{}, Envelopes: &api.Envelopes{}, Policies: &api.Policies{}, Lifecycle: &api.Lifecycle{}, Events: &api.Events{}, Cost: &api.Cost{}, Oracle: &api.Oracle{}, Prices: &api.Prices{},
		Tenant: &api.Tenant{}, Agents: &api.Agents{}, Audit: &api.Audit{}, Admin: &api.Admin{}, Tools: &api.Tools{},
		Wallets: &api.Wallets{}, Books: &api.Books{}, Immune: &api.Immune{}, Webhooks: &api.Webhooks{}, Judge: &api.Judge{},
	}.Register(&r)
	routes := door.Routes()
	for _, m := range r.methods {
		if _, ok := routes[m]; !ok {
			t.Errorf("%s has no route", m)
		}
	}
	for m, route := range routes {
		if !slices.Contains(r.methods, m) {
			t.Errorf("%s is not registered", m)
		}
		if len(route.Scopes) == 0 && !route.Admin {
			t.Errorf("%s is for nobody", m)
		}
	}
}

// callers answers every credential with a principal.
type callers struct{ p identity.Principal }

func (c callers) Authenticate(context.Context, string) (identity.Principal, error) { return c.p, nil }

type noLimits struct{}

func (noLimits) Allow(context.Context, identity.Principal, int) error { return nil }

// Each scope opens what it is for and nothing else.
func TestScopesOpenWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	for method, route := range door.Routes() {
		for _, scope := range []string{
			"policy:read", "policy:write", "policy:approve", "cost:read", "cost:write", "envelope:read", "envelope:write", "event:read", "event:write",
			"approval:read", "approval:write", "agent:read", "agent:write", "api_key:read", "api_key:write", "audit:read", "tenant:admin", "*",
		} {
			p := identity.Principal{Tenant: uuid.New(), KeyID: "k", Scopes: []string{scope}}
			g := door.New(callers{p}, noLimits{}, slog.New(slog.DiscardHandler))
			_, err := g.Admit(t.Context(), method, "shown", nil)
			want := slices.Contains(route.Scopes, scope) || scope == "*" && len(route.Scopes) > 0
			if (err == nil) != want || err != nil && !fault.Is(err, fault.Denied) {
				t.Errorf("%s with %s: %v", method, scope, err)
			}
		}
	}
	g := door.New(callers{identity.Principal{Tenant: uuid.New(), Scopes: []string{"*"}}}, noLimits{}, slog.New(slog.DiscardHandler))
	if _, err := g.Admit(t.Context(), "/fulcrum.secret.v1/Method", "shown", nil); !fault.HasReason(err, "ROUTE_CLOSED") {
		t.Errorf("an unknown method: %v", err)
	}
}

// What names another tenant or cannot be stored is refused, wherever it is.
func TestCheck(t *testing.T) {
	t.Parallel()
	own, other := uuid.New(), uuid.New()
	ctx := identity.With(t.Context(), identity.Principal{Tenant: own, KeyID: "k"})
	for name, test := range map[string]struct {
		req   proto.Message
		kind  fault.Kind
		field string
	}{
		"nothing":    {&envelopev1.CreateEnvelopeRequest{}, "", ""},
		"own tenant": {&envelopev1.CreateEnvelopeRequest{TenantId: own.String()}, "", ""},
		"another":    {&envelopev1.CreateEnvelopeRequest{TenantId: other.String()}, fault.Denied, "tenant_id"},
		"another, in a list": {&eventstorev1.PublishEventBatchRequest{Events: []*eventstorev1.EventPayload{{}, {TenantId: other.String()}}},
			fault.Denied, "events[1].tenant_id"},
		"another, in a policy": {&policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{TenantId: other.String()}}, fault.Denied, "policy.tenant_id"},
		"NUL in a map key":     {&envelopev1.CreateEnvelopeRequest{Metadata: map[string]string{"a\x00": "b"}}, fault.Invalid, "metadata"},
		"NUL in a map value":   {&envelopev1.CreateEnvelopeRequest{Metadata: map[string]string{"a": "b\x00"}}, fault.Invalid, `metadata["a"]`},
		"NUL deep inside": {&governancev1.AuthorizeRequest{Action: &governancev1.Action{Arguments: &structpb.Struct{Fields: map[string]*structpb.Value{
			"x": structpb.NewStringValue("\x00")}}}}, fault.Invalid, `action.arguments.fields["x"].string_value`},
		"NaN deep inside": {&governancev1.AuthorizeRequest{Action: &governancev1.Action{Arguments: &structpb.Struct{Fields: map[string]*structpb.Value{
			"x": structpb.NewNumberValue(math.NaN())}}}}, fault.Invalid, `action.arguments.fields["x"].number_value`},
	} {
		err := door.Check(ctx, test.req)
		if test.kind == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		f, ok := fault.As(err)
		if !ok || f.Kind != test.kind || len(f.Violations) != 1 || f.Violations[0].Field != test.field {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeadersThatAreOurs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"fulcrum-principal-bin": true, "Fulcrum_Internal_Token": true, "X-Fulcrum-Tenant": true, "x_fulcrum_tenant": true, "X-Tenant-Id": true,
		"x-request-id": false, "authorization": false, "x-api-key": false,
	} {
		if door.Ours(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
