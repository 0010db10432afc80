// Package keys issues and revokes API keys. No key ever grants more than the
// credential that made it.
package keys

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// Everything is the scope that holds all others.
const Everything = "*"

// Scopes are all there are.
var scopes = []string{
	"policy:read", "policy:write", "policy:approve",
	"cost:read", "cost:write",
	"envelope:read", "envelope:write",
	"event:read", "event:write",
	"approval:read", "approval:write",
	"agent:read", "agent:write",
	"api_key:read", "api_key:write",
	"audit:read", "tenant:admin",
	Everything,
}

// Spec is the key that somebody asks for. Calls with it act as Agent, Team and
// User, as far as those are set.
type Spec struct {
	Name              string
	Scopes, Roles     []string
	Agent, Team, User string
	TTL               time.Duration // 0: never expires
}

// Record is a key as it is stored: everything but the key.
type Record struct {
	Spec
	ID            string
	Hash          []byte
	PepperVersion int16
	LastFour      string
}

// Key is a key as people see it.
type Key struct {
	ID, Name, LastFour string
	Scopes             []string
	CreatedAt          time.Time
	ExpiresAt, UsedAt  *time.Time // nil: never
}

// Hint is the first and the last characters, for people to know a key by.
func (k Key) Hint() string { return k.ID[:4] + "..." + k.LastFour }

// Position is a place in a list: after the key it describes.
type Position struct {
	CreatedAt time.Time `json:"c"`
	ID        string    `json:"i"`
}

// Store keeps keys. Each change is one transaction that also records what
// happened and, for the end of a key, tells the gateways.
type Store interface {
	// CreateKey stores a key, once. If by is itself a key of the tenant, it is
	// looked at again under a lock: a key that has ended, or would end before
	// the new one, makes none. A repeated call is an Exists fault: a secret is
	// shown once. NotFound says that there is no such tenant.
	CreateKey(ctx context.Context, by identity.Principal, tenant uuid.UUID, r Record, once change.Once) (Key, error)
	// RevokeKey ends a key for good. NotFound if there is none, or none any more.
	RevokeKey(ctx context.Context, by identity.Principal, id string) error
	// Keys returns up to limit keys that are not revoked, newest first.
	Keys(ctx context.Context, tenant uuid.UUID, after *Position, limit int) ([]Key, error)
}

// Service is what may be done with keys.
type Service struct {
	store   Store
	pepper  secret.Secret
	version int16
}

// New returns a Service that hashes keys under pepper, which version names.
func New(store Store, pepper secret.Secret, version int16) *Service {
	return &Service{store: store, pepper: pepper, version: version}
}

// Create makes a key in the caller's own tenant, within the caller's rights: no
// scope the caller lacks, the same agent, team, user and roles if the caller is
// a key, and no later end. The returned key is the only copy.
func (s *Service) Create(ctx context.Context, by identity.Principal, spec Spec, once change.Once) (Key, apikey.Key, error) {
	if err := check(spec); err != nil {
		return Key{}, apikey.Key{}, err
	}
	for _, scope := range spec.Scopes {
		if !slices.Contains(by.Scopes, scope) && !slices.Contains(by.Scopes, Everything) {
			return Key{}, apikey.Key{}, fault.New(fault.Denied, "this credential cannot give the scope %q, which it lacks", scope).
				WithReason("SCOPE_ESCALATION").WithMeta("scope", scope).
				WithHint("Ask for scopes that this credential has, or use one that has more.")
		}
	}
	spec.Agent, spec.Team, spec.User, spec.Roles = "", "", "", nil
	if by.KeyID != "" {
		spec.Agent, spec.Team, spec.User, spec.Roles = by.AgentID, by.Team, by.UserID, by.Roles
	}
	return s.issue(ctx, by, by.Tenant, spec, once)
}

// Issue makes any key in any tenant, for the platform's administrator.
func (s *Service) Issue(ctx context.Context, by identity.Principal, tenant uuid.UUID, spec Spec, once change.Once) (Key, apikey.Key, error) {
	if err := by.MustBeAdmin(); err != nil {
		return Key{}, apikey.Key{}, err
	}
	if err := check(spec); err != nil {
		return Key{}, apikey.Key{}, err
	}
	return s.issue(ctx, by, tenant, spec, once)
}

func (s *Service) issue(ctx context.Context, by identity.Principal, tenant uuid.UUID, spec Spec, once change.Once) (Key, apikey.Key, error) {
	spec.Scopes = slices.Compact(slices.Sorted(slices.Values(spec.Scopes)))
	key := apikey.Generate()
	stored, err := s.store.CreateKey(ctx, by, tenant, Record{
		Spec: spec, ID: key.ID, Hash: key.Hash(s.pepper), PepperVersion: s.version, LastFour: key.LastFour(),
	}, once)
	if err != nil {
		return Key{}, apikey.Key{}, err
	}
	return stored, key, nil
}

// Revoke ends a key for good.
func (s *Service) Revoke(ctx context.Context, by identity.Principal, id string) error {
	return s.store.RevokeKey(ctx, by, id)
}

// Keys returns up to limit keys after a position, newest first.
func (s *Service) Keys(ctx context.Context, tenant uuid.UUID, after *Position, limit int) ([]Key, error) {
	return s.store.Keys(ctx, tenant, after, limit)
}
