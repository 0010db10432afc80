// Package credential knows who is calling from what they show: an API key, or
// the platform administrator's key. It is the same for every door.
package credential

import (
	"context"
	"crypto/hmac"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Stored is an API key as the database has it.
type Stored struct {
	Tenant        uuid.UUID
	KeyID         string
	Hash          []byte
	PepperVersion int
	Scopes        []string
	Roles         []string
	AgentID       string
	Team          string
	UserID        string
	ExpiresAt     time.Time // zero: never
	Revoked       bool
	TenantActive  bool
}

// Keys finds an API key by its public id, whoever's it is.
type Keys interface {
	FindKey(ctx context.Context, keyID string) (k Stored, found bool, err error)
}

// Cache is shared by all instances. It is never trusted: what it returns was
// sealed by one of us. Losing it loses nothing.
type Cache interface {
	Get(ctx context.Context, name, keyID string) (Entry, bool)
	Put(ctx context.Context, name string, e Entry, ttl time.Duration)
	// Drop forgets a key id, or with "" every key of the tenant, and makes sure
	// that nobody puts back what he knew before.
	Drop(ctx context.Context, tenant uuid.UUID, keyID string)
}

// Entry is what a key was found to be worth. A refusal is one too.
type Entry struct {
	Principal identity.Principal
	Refused   bool
	ExpiresAt time.Time // of the key; zero: never
}

// Options configure an Authenticator.
type Options struct {
	Keys     Keys
	Cache    Cache                 // nil: none
	Peppers  map[int]secret.Secret // by version
	AdminKey secret.Secret         // empty: no platform administrator
	Log      *slog.Logger

	TTL        time.Duration // how long an answer is believed at most; 30 s
	RefusalTTL time.Duration // the same for refusals; 2 s
	Now        func() time.Time
	Notices    *Notices // nil: nobody is told
}

// Authenticator turns credentials into principals. Safe for concurrent use.
type Authenticator struct {
	o     Options
	local *otter.Cache[string, Entry] // by SHA-256 of the whole key
	// epochs guard against an answer that was looked up before a revocation
	// and stored after it: generation moves with every revocation.
	epoch *epochs
	// ended are keys, and tenants whose keys, ended so lately that the shared
	// cache may not have heard of it: it is not asked about them.
	ended *otter.Cache[string, struct{}]
	// telling counts who is telling the shared cache of a revocation.
	telling sync.WaitGroup
	decoy   secret.Secret // hashed under when there is nothing to compare with
}

// ErrInvalid is the one answer to every key that is not good: it does not say
// whether the key is unknown, wrong, expired or revoked.
var ErrInvalid = fault.New(fault.Unauthenticated, "the API key is not valid").
	WithReason("API_KEY_INVALID").
	WithHint("Check the key, or create a new one: it may have been revoked or have expired.")

// ErrMissing is the answer to a call without a credential.
var ErrMissing = fault.New(fault.Unauthenticated, "this call needs a credential").
	WithReason("CREDENTIAL_MISSING").
	WithHint("Send an API key as the header \"authorization: Bearer flcrm_sk_...\" or \"x-api-key\".")

// ErrAmbiguous is the answer to a call with more than one credential: which of
// them counts must not be a matter of taste.
var ErrAmbiguous = fault.New(fault.Unauthenticated, "this call carries more than one credential").
	WithReason("CREDENTIAL_AMBIGUOUS").
	WithHint("Send either authorization or x-api-key, once.")

// ErrScheme is the answer to an authorization header that is not a bearer's.
var ErrScheme = fault.New(fault.Unauthenticated, "the authorization header is not \"Bearer <key>\"").
	WithReason("CREDENTIAL_MALFORMED").
	WithHint("Send an API key as the header \"authorization: Bearer flcrm_sk_...\".")

// New returns an Authenticator.
func New(o Options) *Authenticator {
	if o.TTL <= 0 {
		o.TTL = 30 * time.Second
	}
	if o.RefusalTTL <= 0 {
		o.RefusalTTL = 2 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Authenticator{
		o:     o,
		epoch: newEpochs(),
		ended: otter.Must(&otter.Options[string, struct{}]{
			MaximumSize: 50_000, ExpiryCalculator: otter.ExpiryWriting[string, struct{}](2 * o.TTL),
		}),
		decoy: secret.New("a pepper that no key was ever hashed under"),
		local: otter.Must(&otter.Options[string, Entry]{
			MaximumSize: 50_000,
			ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, Entry]) time.Duration {
				if e.Value.Refused {
					return o.RefusalTTL
				}
				return o.TTL
			}),
		}),
	}
}

// Close ends what runs in the background. The Authenticator is not used after it.
func (a *Authenticator) Close() {
	a.telling.Wait()
	a.local.StopAllGoroutines()
	a.ended.StopAllGoroutines()
}

// Find picks the credential out of a call's headers: every value of
// "authorization" and of "x-api-key".
func Find(authorization, apiKey []string) (string, error) {
	switch {
	case len(authorization)+len(apiKey) == 0:
		return "", ErrMissing
	case len(authorization)+len(apiKey) > 1:
		return "", ErrAmbiguous
	case len(apiKey) == 1:
		return apiKey[0], nil
	}
	scheme, key, ok := strings.Cut(authorization[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || key == "" {
		return "", ErrScheme
	}
	return key, nil
}

// Authenticate returns who shows a credential. A malformed one costs no I/O.
func (a *Authenticator) Authenticate(ctx context.Context, shown string) (identity.Principal, error) {
	if !a.o.AdminKey.IsZero() && a.o.AdminKey.Equal(shown) {
		return identity.Principal{Admin: true}, nil
	}
	key, err := apikey.Parse(shown)
	if err != nil {
		return identity.Principal{}, err
	}
	name := key.CacheKey()
	e, ok := a.local.GetIfPresent(name)
	if !ok {
		if e, err = a.look(ctx, key, name); err != nil {
			return identity.Principal{}, err
		}
	}
	if e.Refused || !e.ExpiresAt.IsZero() && !a.o.Now().Before(e.ExpiresAt) {
		return identity.Principal{}, ErrInvalid
	}
	return e.Principal, nil
}

// look asks the shared cache, then the database.
func (a *Authenticator) look(ctx context.Context, key apikey.Key, name string) (Entry, error) {
	began := a.epoch.of(key.ID)
	if a.o.Cache != nil {
		if e, ok := a.o.Cache.Get(ctx, name, key.ID); ok && e.Principal.KeyID == key.ID && !a.lately(e.Principal) {
			a.keep(key.ID, began, name, e)
			return e, nil
		}
	}
	stored, found, err := a.o.Keys.FindKey(ctx, key.ID)
	if err != nil {
		return Entry{}, err
	}
	e := a.judge(ctx, key, stored, found)
	if a.keep(key.ID, began, name, e) && a.o.Cache != nil && !e.Refused {
		a.o.Cache.Put(ctx, name, e, a.o.TTL)
	}
	return e, nil
}

// keep remembers an answer unless the key was revoked while it was looked up.
func (a *Authenticator) keep(keyID string, began uint64, name string, e Entry) bool {
	if a.epoch.of(keyID) != began {
		return false
	}
	a.local.Set(name, e)
	if a.epoch.of(keyID) != began { // revoked between the look and the Set
		a.local.Invalidate(name)
		return false
	}
	return true
}

// judge compares a key with what is stored. It does the same work for an id
// that nobody has.
func (a *Authenticator) judge(ctx context.Context, key apikey.Key, k Stored, found bool) Entry {
	pepper, known := a.o.Peppers[k.PepperVersion]
	hash := k.Hash
	if !found || !known {
		pepper, hash = a.decoy, make([]byte, 32)
	}
	matches := hmac.Equal(key.Hash(pepper), hash)
	why := ""
	switch {
	case !found:
		why = "unknown"
	case !known:
		why = "hashed under a pepper that is not configured"
	case !matches:
		why = "wrong secret"
	case k.Revoked:
		why = "revoked"
	case !k.ExpiresAt.IsZero() && !a.o.Now().Before(k.ExpiresAt):
		why = "expired"
	case !k.TenantActive:
		why = "tenant suspended"
	}
	if why != "" {
		a.o.Log.LogAttrs(ctx, slog.LevelInfo, "API key refused", slog.String("key_id", key.ID), slog.String("why", why))
		if found {
			a.o.Notices.note(k, why)
		}
		return Entry{Refused: true, Principal: identity.Principal{KeyID: key.ID}}
	}
	a.o.Notices.note(k, "")
	return Entry{
		Principal: identity.Principal{
			Tenant: k.Tenant, KeyID: k.KeyID, AgentID: k.AgentID, Team: k.Team, UserID: k.UserID, Roles: k.Roles, Scopes: k.Scopes,
		},
		ExpiresAt: k.ExpiresAt,
	}
}

// Revoke forgets a key at once. "" forgets all keys of a tenant, as when it was
// suspended. The shared cache is told beside it: that may be away, and neither
// this revocation nor the next waits for it.
func (a *Authenticator) Revoke(ctx context.Context, tenant uuid.UUID, keyID string) {
	a.ended.Set(ending(tenant, keyID), struct{}{}) // first: a look from now on goes to the database
	a.epoch.move(keyID)
	for name, e := range a.local.All() {
		if e.Principal.KeyID == keyID || keyID == "" && e.Principal.Tenant == tenant {
			a.local.Invalidate(name)
		}
	}
	if a.o.Cache != nil {
		ctx := context.WithoutCancel(ctx)
		a.telling.Go(func() { a.o.Cache.Drop(ctx, tenant, keyID) })
	}
}

// ending names a key, or with "" all keys of a tenant.
func ending(tenant uuid.UUID, keyID string) string {
	if keyID == "" {
		return "tenant " + tenant.String()
	}
	return "key " + keyID
}

// lately reports whether the key of p, or all of its tenant's, ended so lately
// that the shared cache may not know.
func (a *Authenticator) lately(p identity.Principal) bool {
	_, key := a.ended.GetIfPresent(ending(p.Tenant, p.KeyID))
	_, tenant := a.ended.GetIfPresent(ending(p.Tenant, ""))
	return key || tenant
}

// Changed takes over a configuration event of kind "keys": a key was revoked,
// or with no key named, something about all keys of a tenant has changed.
func (a *Authenticator) Changed(ctx context.Context, e *busv1.Event) error {
	tenant, err := uuid.Parse(e.GetTenantId())
	if err != nil {
		return fmt.Errorf("read tenant of key change %s: %w", e.GetEventId(), err)
	}
	a.Revoke(ctx, tenant, e.GetPayload().GetFields()["key_id"].GetStringValue())
	return nil
}
