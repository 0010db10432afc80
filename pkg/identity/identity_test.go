package identity

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

func TestNobodyIsCallingUntilSomebodyIs(t *testing.T) {
	t.Parallel()
	if _, err := From(t.Context()); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("From = %v", err)
	}
	want := Principal{Tenant: uuid.New(), KeyID: "k", Scopes: []string{"policy:read"}}
	ctx := With(t.Context(), want)
	got, err := From(ctx)
	if err != nil || got.Tenant != want.Tenant || got.KeyID != "k" {
		t.Errorf("From = %+v, %v", got, err)
	}
	inner := With(ctx, Principal{KeyID: "other"})
	if p, _ := From(inner); p.KeyID != "other" {
		t.Error("the innermost caller does not count")
	}
}

func TestCanNamesTheMissingScope(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		p      Principal
		denied bool
	}{
		{"the scope itself", Principal{Scopes: []string{"cost:read", "policy:write"}}, false},
		{"everything", Principal{Scopes: []string{"*"}}, false},
		{"reading is not writing", Principal{Scopes: []string{"policy:read"}}, true},
		{"a prefix is not the scope", Principal{Scopes: []string{"policy", "policy:*", "policy:writ"}}, true},
		{"nothing", Principal{}, true},
		{"a platform administrator has no tenant's data", Principal{Admin: true}, true},
		{"the system", System(uuid.New()), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.p.Can("policy:write")
			if (err != nil) != tt.denied {
				t.Fatalf("Can = %v", err)
			}
			if f, ok := fault.As(err); tt.denied && (!ok || f.Kind != fault.Denied || f.Meta["scope"] != "policy:write") {
				t.Errorf("Can = %v", err)
			}
		})
	}
}

func TestATenantNeedsACallerOfATenant(t *testing.T) {
	t.Parallel()
	tenant := uuid.New()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		want fault.Kind
	}{
		{"nobody", context.Background(), fault.Unauthenticated},
		{"an administrator", With(context.Background(), Principal{Admin: true, Scopes: []string{"*"}}), fault.Precondition},
		{"without the scope", With(context.Background(), Principal{Tenant: tenant}), fault.Denied},
		{"with everything", With(context.Background(), System(tenant)), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := Allowed(tt.ctx, "policy:read")
			if tt.want == "" {
				if err != nil || p.Tenant != tenant {
					t.Errorf("Allowed = %+v, %v", p, err)
				}
				return
			}
			if !fault.Is(err, tt.want) {
				t.Errorf("Allowed = %v, want %v", err, tt.want)
			}
			if p.Tenant != uuid.Nil || p.Scopes != nil {
				t.Errorf("somebody refused came back: %+v", p)
			}
		})
	}
}

func TestOnlyAnAdministratorIsOne(t *testing.T) {
	t.Parallel()
	if err := (Principal{Admin: true}).MustBeAdmin(); err != nil {
		t.Error(err)
	}
	if err := (Principal{Scopes: []string{"*", "tenant:admin"}}).MustBeAdmin(); !fault.Is(err, fault.Denied) {
		t.Errorf("a tenant's administrator: %v", err)
	}
}

func TestActor(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]Principal{
		"user:u":  {UserID: "u", AgentID: "a", KeyID: "k"},
		"agent:a": {AgentID: "a", KeyID: "k"},
		"key:k":   {KeyID: "k", Admin: true},
		"admin":   {Admin: true},
		"system":  System(uuid.New()),
		"unknown": {},
	} {
		if got := p.Actor(); got != want {
			t.Errorf("Actor = %q, want %q", got, want)
		}
	}
}
