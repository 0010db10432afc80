// Package lastgood keeps each tenant's last good policy bundle in Redis. Redis is
// not trusted: a bundle carries a MAC over tenant, version and content, and one
// that does not match is as good as none.
package lastgood

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/tenants"
)

// lifetime is how long a bundle stays without being written again. Every load
// from the store of record writes it.
const lifetime = 30 * 24 * time.Hour

// Shelf implements tenants.Shelf.
type Shelf struct {
	redis redis.Cmdable
	key   []byte
}

// New returns a Shelf that signs with key. The caller owns the client.
func New(client redis.Cmdable, key secret.Secret) *Shelf {
	return &Shelf{redis: client, key: []byte(key.Reveal())}
}

// put writes a bundle unless a newer one is there: instances do not load in step.
var put = redis.NewScript(`
local have = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if have > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'mac', ARGV[2], 'content', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1`)

// Put implements tenants.Shelf.
func (s *Shelf) Put(ctx context.Context, tenant uuid.UUID, b tenants.Bundle) error {
	err := put.Run(ctx, s.redis, []string{name(tenant)},
		b.Version, s.mac(tenant, b), b.Content, int(lifetime.Seconds())).Err()
	if err != nil {
		return fmt.Errorf("keep bundle: %w", err)
	}
	return nil
}

// Take implements tenants.Shelf. A bundle that somebody altered, or put under
// another tenant or version, is an error.
func (s *Shelf) Take(ctx context.Context, tenant uuid.UUID) (tenants.Bundle, error) {
	fields, err := s.redis.HMGet(ctx, name(tenant), "version", "mac", "content").Result()
	if err != nil {
		return tenants.Bundle{}, fmt.Errorf("take bundle: %w", err)
	}
	version, ok1 := fields[0].(string)
	mac, ok2 := fields[1].(string)
	content, ok3 := fields[2].(string)
	if !ok1 && !ok2 && !ok3 {
		return tenants.Bundle{}, nil
	}
	b := tenants.Bundle{Content: []byte(content)}
	if b.Version, err = strconv.ParseInt(version, 10, 64); err != nil || b.Version <= 0 {
		return tenants.Bundle{}, errForged
	}
	if !hmac.Equal([]byte(mac), s.mac(tenant, b)) {
		return tenants.Bundle{}, errForged
	}
	return b, nil
}

// Kept implements tenants.Shelf.
func (s *Shelf) Kept(ctx context.Context, limit int) (out []uuid.UUID, err error) {
	scan := s.redis.Scan(ctx, 0, prefix+"*"+suffix, 500).Iterator()
	for len(out) < limit && scan.Next(ctx) {
		// Keys of Redis are not trusted either; what they name is only looked up.
		if id, err := uuid.Parse(strings.TrimSuffix(strings.TrimPrefix(scan.Val(), prefix), suffix)); err == nil {
			out = append(out, id)
		}
	}
	if err := scan.Err(); err != nil {
		return out, fmt.Errorf("list bundles: %w", err)
	}
	return out, nil
}

var errForged = errors.New("the bundle in Redis is not one of ours")

const prefix, suffix = "tenant:", ":policy:bundle"

func name(tenant uuid.UUID) string { return prefix + tenant.String() + suffix }

func (s *Shelf) mac(tenant uuid.UUID, b tenants.Bundle) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte("fulcrum policy bundle 1\x00"))
	h.Write(tenant[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(b.Version)))
	h.Write(b.Content)
	return h.Sum(nil)
}
