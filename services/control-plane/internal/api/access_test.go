package api_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/access"
)

// scopes are all but the one that holds the others.
var scopes = []string{
	"policy:read", "policy:write", "policy:approve", "cost:read", "cost:write", "envelope:read", "envelope:write",
	"event:read", "event:write", "approval:read", "approval:write", "agent:read", "agent:write",
	"api_key:read", "api_key:write", "audit:read", "tenant:admin",
}

// Every method that the server answers, called by everybody who should not get
// past the door, and by those who should.
func TestEveryMethodAsksForItsScope(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	walked := 0
	for service, info := range b.server.GRPC().GetServiceInfo() {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			rule, ok := access.Of(method)
			if !ok {
				t.Errorf("%s has no rule", method)
				continue
			}
			if rule.Open {
				if !strings.HasPrefix(method, "/grpc.health.v1.") {
					t.Errorf("%s is open to everybody", method)
				}
				continue
			}
			walked++
			t.Run(m.Name, func(t *testing.T) { b.walk(t, method, rule) })
		}
	}
	if walked < 30 {
		t.Errorf("only %d methods walked", walked)
	}
}

func (b *bench) walk(t *testing.T, method string, rule access.Rule) {
	call := func(p *identity.Principal) error {
		ctx := t.Context()
		if p != nil {
			ctx = identity.With(ctx, *p)
		}
		return b.conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	if rule.Elsewhere {
		if err := call(&identity.Principal{Tenant: b.tenantA, Scopes: []string{"*"}, Admin: true}); rpc.PeerCode(err) != codes.Unimplemented {
			t.Errorf("served elsewhere: %v", err)
		}
		return
	}
	refused := func(err error) bool {
		return errors.Is(err, fault.Denied) || errors.Is(err, fault.Unauthenticated) || errors.Is(err, fault.Precondition)
	}
	wantKind(t, "anonymous", call(nil), fault.Unauthenticated, "")
	wantKind(t, "no scopes", call(&identity.Principal{Tenant: b.tenantA}), fault.Denied, "")
	if rule.Scope != "" {
		others := slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == rule.Scope })
		wantKind(t, "every scope but the one", call(&identity.Principal{Tenant: b.tenantA, Scopes: others}), fault.Denied, "SCOPE_MISSING")
		if err := call(&identity.Principal{Tenant: b.tenantA, Scopes: []string{rule.Scope}}); refused(err) {
			t.Errorf("with %s: %v", rule.Scope, err)
		}
		if err := call(&identity.Principal{Tenant: b.tenantA, Scopes: []string{"*"}}); refused(err) {
			t.Errorf("with *: %v", err)
		}
	} else {
		wantKind(t, "every scope", call(&identity.Principal{Tenant: b.tenantA, Scopes: append([]string{"*"}, scopes...)}), fault.Denied, "ADMIN_REQUIRED")
	}
	if err := call(&identity.Principal{Admin: true}); refused(err) == rule.Admin {
		t.Errorf("platform administrator: %v, admin method %v", err, rule.Admin)
	}
}
