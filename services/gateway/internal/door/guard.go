// Package door lets callers in, or not. Every way into the gateway (gRPC,
// Connect, REST) asks the same Guard, so that all of them refuse alike.
package door

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
)

// Credentials knows who shows a key.
type Credentials interface {
	Authenticate(ctx context.Context, shown string) (identity.Principal, error)
}

// Limits counts calls.
type Limits interface {
	Allow(ctx context.Context, p identity.Principal, calls int) error
}

// Guard authenticates, authorizes and counts calls.
type Guard struct {
	credentials Credentials
	limits      Limits
	routes      map[string]Route
	log         *slog.Logger
}

// New returns a Guard over Routes.
func New(credentials Credentials, limits Limits, log *slog.Logger) *Guard {
	routes := Routes()
	for method, r := range otherRoutes() {
		routes[method] = r
	}
	return &Guard{credentials: credentials, limits: limits, routes: routes, log: log}
}

// Admit returns the context in which a method may be called: with the caller's
// identity in it. shown is the caller's credential, or the error of looking for
// one.
func (g *Guard) Admit(ctx context.Context, method string, shown string, missing error) (context.Context, error) {
	if missing != nil {
		return nil, missing
	}
	p, err := g.credentials.Authenticate(ctx, shown)
	if err != nil {
		return nil, err
	}
	if err := g.authorize(method, p); err != nil {
		return nil, err
	}
	if err := g.limits.Allow(ctx, p, 1); err != nil {
		return nil, err
	}
	return identity.With(ctx, p), nil
}

// Count counts calls more of the caller in ctx, for a request that asks for
// several things at once. It returns a fault.Exhausted if they are too many.
func (g *Guard) Count(ctx context.Context, calls int) error {
	p, err := identity.From(ctx)
	if err != nil {
		return err
	}
	return g.limits.Allow(ctx, p, calls)
}

// authorize denies by default: a method without a route, a caller without one
// of its scopes, an administrator where tenants' data is.
func (g *Guard) authorize(method string, p identity.Principal) error {
	route, ok := g.routes[method]
	if !ok {
		return fault.New(fault.Denied, "nobody may call %s", short(method)).WithReason("ROUTE_CLOSED")
	}
	if p.Admin {
		if route.Admin {
			return nil
		}
		return fault.New(fault.Denied, "a platform administrator has no access to a tenant's data").
			WithReason("ADMIN_HAS_NO_TENANT").
			WithHint("Issue an API key in the tenant and use that.")
	}
	if p.Tenant == uuid.Nil {
		return errors.New("a credential of no tenant got in")
	}
	for _, scope := range route.Scopes {
		if p.Can(scope) == nil {
			return nil
		}
	}
	if len(route.Scopes) == 0 {
		return p.MustBeAdmin()
	}
	missing := fault.New(fault.Denied, "this credential lacks the scope %s", strings.Join(route.Scopes, " or ")).
		WithReason("SCOPE_MISSING").WithMeta("scope", route.Scopes[0]).
		WithHint("Use a credential with the scope " + route.Scopes[0] + ", or ask a tenant administrator to add it.")
	return missing
}
