// Package identity says on whose behalf a call is made.
//
// The gateway makes a Principal from a credential; package rpc carries it
// between services. A tenant comes from here and never from a request.
package identity

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Principal is an authenticated caller. Treat it as read-only: its slices are
// shared by everybody who handles the call.
type Principal struct {
	Tenant  uuid.UUID // uuid.Nil only for a platform administrator
	KeyID   string
	AgentID string
	Team    string
	UserID  string
	Roles   []string
	Scopes  []string // what it may do; "*" is everything inside Tenant
	Admin   bool     // platform administrator: every tenant's administration, no tenant's data
}

// systemKey cannot be an API key's id, which has twelve characters.
const systemKey = "system"

// System is Fulcrum itself working for a tenant in the background.
func System(tenant uuid.UUID) Principal {
	return Principal{Tenant: tenant, KeyID: systemKey, Scopes: []string{"*"}}
}

// Actor names the caller in records: the person if there is one, else the
// agent, else the key.
func (p Principal) Actor() string {
	switch {
	case p.UserID != "":
		return "user:" + p.UserID
	case p.AgentID != "":
		return "agent:" + p.AgentID
	case p.KeyID == systemKey:
		return systemKey
	case p.KeyID != "":
		return "key:" + p.KeyID
	case p.Admin:
		return "admin"
	}
	return "unknown"
}

// Can returns nil if the caller holds the scope, else a Denied fault naming it.
func (p Principal) Can(scope string) error {
	if slices.Contains(p.Scopes, scope) || slices.Contains(p.Scopes, "*") {
		return nil
	}
	return fault.New(fault.Denied, "this credential lacks the scope %q", scope).
		WithReason("SCOPE_MISSING").
		WithMeta("scope", scope).
		WithHint("Use a credential with the scope " + scope + ", or ask a tenant administrator to add it.")
}

// MustBeAdmin returns nil for a platform administrator, else a Denied fault.
func (p Principal) MustBeAdmin() error {
	if p.Admin {
		return nil
	}
	return fault.New(fault.Denied, "only a platform administrator may do this").WithReason("ADMIN_REQUIRED")
}

type key struct{}

// With returns a context in which p is calling.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, key{}, &p)
}

// From returns who is calling, or an Unauthenticated fault.
func From(ctx context.Context) (Principal, error) {
	if p, ok := ctx.Value(key{}).(*Principal); ok {
		return *p, nil
	}
	return Principal{}, fault.New(fault.Unauthenticated, "this call needs a credential").
		WithReason("CREDENTIAL_MISSING").
		WithHint("Send an API key as the header \"authorization: Bearer flcrm_sk_...\".")
}

// Tenant returns the tenant that the call is for: an Unauthenticated fault
// without a caller, a Precondition fault if the caller is of no tenant.
func Tenant(ctx context.Context) (uuid.UUID, error) {
	p, err := From(ctx)
	if err != nil {
		return uuid.Nil, err
	}
	if p.Tenant == uuid.Nil {
		return uuid.Nil, fault.New(fault.Precondition, "this call needs a credential of a tenant").
			WithReason("TENANT_MISSING")
	}
	return p.Tenant, nil
}

// Allowed returns who is calling if they are of a tenant and hold the scope:
// the first line of most handlers.
func Allowed(ctx context.Context, scope string) (Principal, error) {
	if _, err := Tenant(ctx); err != nil {
		return Principal{}, err
	}
	p, err := From(ctx)
	if err != nil {
		return Principal{}, err
	}
	if err := p.Can(scope); err != nil {
		return Principal{}, err
	}
	return p, nil
}
