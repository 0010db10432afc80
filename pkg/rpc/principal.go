package rpc

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	identityv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/identity/v1"
)

// The metadata by which one service tells another who is calling.
const (
	principalKey = "fulcrum-principal-bin"
	tokenKey     = "fulcrum-internal-token"
)

// RequireInternalToken fails if addr, a listen or dial address, reaches beyond
// this machine and there is no token: without one, everybody who can connect
// can claim to be anybody.
func RequireInternalToken(addr string, token secret.Secret) error {
	if !token.IsZero() || secret.Loopback(addr) {
		return nil
	}
	return fmt.Errorf("FULCRUM_INTERNAL_TOKEN is required: %s is not a loopback address", addr)
}

// internalCaller believes the principal in the metadata of a call that carries
// the token. With a token configured every call must carry it, whoever it is
// for; without one the server is on loopback (see RequireInternalToken).
func internalCaller(token secret.Secret) func(context.Context, string) (context.Context, error) {
	return func(ctx context.Context, _ string) (context.Context, error) {
		if !token.IsZero() && !token.Equal(one(ctx, tokenKey)) {
			return nil, fault.New(fault.Unauthenticated, "this is an internal service: the internal token is missing or wrong").
				WithReason(reasonPeer)
		}
		raw := metadata.ValueFromIncomingContext(ctx, principalKey)
		if len(raw) == 0 {
			return ctx, nil
		}
		p, err := decodePrincipal(raw)
		if err != nil {
			return nil, fault.New(fault.Unauthenticated, "the principal of this call cannot be read").
				WithReason(reasonPeer).WithCause(err)
		}
		return identity.With(ctx, p), nil
	}
}

// one returns the value of key if there is exactly one.
func one(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) == 1 {
		return v[0]
	}
	return ""
}

// idempotencyKey is the metadata in which creates without a field for it carry
// their idempotency key.
const idempotencyKey = "idempotency-key"

// Metadata is what a connection of Dial adds to a call with ctx, for who calls in
// another way: not yet encoded for the wire, and with the token in clear.
func Metadata(ctx context.Context, token secret.Secret) (metadata.MD, error) {
	ctx, err := outgoing(ctx, token)
	if err != nil {
		return nil, err
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	return md, nil
}

// outgoing adds who is calling, and the proof that we may say so. Nothing that was
// there before under these keys leaves.
func outgoing(ctx context.Context, token secret.Secret) (context.Context, error) {
	added := make([]string, 0, 6)
	md, ok := metadata.FromOutgoingContext(ctx) // a copy
	if len(md[idempotencyKey]) == 0 {
		// The caller's key for one effect is the key for its parts elsewhere too.
		if key := one(ctx, idempotencyKey); key != "" {
			added = append(added, idempotencyKey, key)
		}
	}
	if !token.IsZero() {
		added = append(added, tokenKey, token.Reveal())
	}
	if p, err := identity.From(ctx); err == nil {
		raw, err := encodePrincipal(p)
		if err != nil {
			return nil, err
		}
		added = append(added, principalKey, string(raw))
	}
	if ok {
		delete(md, principalKey)
		if !token.IsZero() {
			delete(md, tokenKey)
		}
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return metadata.AppendToOutgoingContext(ctx, added...), nil
}

func encodePrincipal(p identity.Principal) ([]byte, error) {
	raw, err := proto.Marshal(&identityv1.Principal{
		TenantId: p.Tenant.String(), KeyId: p.KeyID, AgentId: p.AgentID, Team: p.Team,
		UserId: p.UserID, Roles: p.Roles, Scopes: p.Scopes, Admin: p.Admin,
	})
	if err != nil {
		return nil, fmt.Errorf("encode principal %s: %w", strings.ToValidUTF8(p.Actor(), "?"), err)
	}
	return raw, nil
}

// decodePrincipal refuses more than one principal: which of them counts must
// not be a matter of taste.
func decodePrincipal(raw []string) (identity.Principal, error) {
	if len(raw) != 1 {
		return identity.Principal{}, fmt.Errorf("decode principal: %d of them", len(raw))
	}
	var m identityv1.Principal
	if err := proto.Unmarshal([]byte(raw[0]), &m); err != nil {
		return identity.Principal{}, fmt.Errorf("decode principal: %w", err)
	}
	tenant, err := uuid.Parse(m.GetTenantId())
	if err != nil {
		return identity.Principal{}, fmt.Errorf("decode principal: %w", err)
	}
	return identity.Principal{
		Tenant: tenant, KeyID: m.GetKeyId(), AgentID: m.GetAgentId(), Team: m.GetTeam(),
		UserID: m.GetUserId(), Roles: m.GetRoles(), Scopes: m.GetScopes(), Admin: m.GetAdmin(),
	}, nil
}
