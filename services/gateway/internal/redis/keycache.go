// Package redis keeps what may be lost: cached credentials and rate limits.
package redis

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/secret"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
)

// KeyCache keeps judged API keys. Redis is not trusted with saying who
// somebody is: every entry is sealed with an HMAC over its name and content, so
// that whoever can write to Redis can take entries away but not make any.
type KeyCache struct {
	client  redis.UniversalClient
	seal    []byte
	log     *slog.Logger
	timeout time.Duration
}

// NewKeyCache returns a cache whose entries are sealed under a key derived from pepper.
func NewKeyCache(client redis.UniversalClient, pepper secret.Secret, log *slog.Logger) *KeyCache {
	mac := hmac.New(sha256.New, []byte(pepper.Reveal()))
	mac.Write([]byte("fulcrum gateway credential cache v1"))
	return &KeyCache{client: client, seal: mac.Sum(nil), log: log, timeout: 100 * time.Millisecond}
}

// kept is an entry as it is written.
type kept struct {
	Principal identity.Principal `json:"principal"`
	ExpiresAt time.Time          `json:"expires_at"`
	StaleAt   time.Time          `json:"stale_at"` // Redis may keep it longer than it was told to
}

func entryKey(name string) string           { return "apikey:" + name }
func revokedKey(keyID string) string        { return "apikey:revoked:" + keyID }
func revokedTenant(tenant uuid.UUID) string { return "apikey:revoked:tenant:" + tenant.String() }

// Get implements credential.Cache. Any doubt is a miss.
func (c *KeyCache) Get(ctx context.Context, name, keyID string) (credential.Entry, bool) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	values, err := c.client.MGet(ctx, entryKey(name), revokedKey(keyID)).Result()
	if err != nil {
		c.log.LogAttrs(ctx, slog.LevelDebug, "credential cache away", slog.Any("err", err))
		return credential.Entry{}, false
	}
	sealed, ok := values[0].(string)
	if !ok || values[1] != nil {
		return credential.Entry{}, false
	}
	k, ok := c.open(name, sealed)
	if !ok || time.Now().After(k.StaleAt) {
		return credential.Entry{}, false
	}
	if n, err := c.client.Exists(ctx, revokedTenant(k.Principal.Tenant)).Result(); err != nil || n > 0 {
		return credential.Entry{}, false
	}
	return credential.Entry{Principal: k.Principal, ExpiresAt: k.ExpiresAt}, true
}

// Put implements credential.Cache. A revocation of the last moments wins over it.
func (c *KeyCache) Put(ctx context.Context, name string, e credential.Entry, ttl time.Duration) {
	raw, err := json.Marshal(kept{Principal: e.Principal, ExpiresAt: e.ExpiresAt, StaleAt: time.Now().Add(ttl)})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.client.Set(ctx, entryKey(name), string(c.mac(name, raw))+string(raw), ttl).Err(); err != nil {
		c.log.LogAttrs(ctx, slog.LevelDebug, "credential not cached", slog.Any("err", err))
	}
}

// Drop implements credential.Cache: entries stay, but nobody believes them for
// longer than any of them can live.
func (c *KeyCache) Drop(ctx context.Context, tenant uuid.UUID, keyID string) {
	name := revokedKey(keyID)
	if keyID == "" {
		name = revokedTenant(tenant)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*c.timeout)
	defer cancel()
	if err := c.client.Set(ctx, name, "1", time.Minute).Err(); err != nil {
		c.log.LogAttrs(ctx, slog.LevelWarn, "revocation not told to the credential cache", slog.Any("err", err))
	}
}

func (c *KeyCache) mac(name string, raw []byte) []byte {
	mac := hmac.New(sha256.New, c.seal)
	mac.Write([]byte(name))
	mac.Write([]byte{0})
	mac.Write(raw)
	return mac.Sum(nil)
}

func (c *KeyCache) open(name, sealed string) (k kept, ok bool) {
	if len(sealed) <= sha256.Size {
		return k, false
	}
	raw := []byte(sealed[sha256.Size:])
	if !hmac.Equal([]byte(sealed[:sha256.Size]), c.mac(name, raw)) {
		return k, false
	}
	return k, json.Unmarshal(raw, &k) == nil
}
