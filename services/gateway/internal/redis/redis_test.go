package redis_test

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/secret"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/redis"
)

func client(t *testing.T) *goredis.Client {
	t.Helper()
	url := os.Getenv("TEST_REDIS_URL")
	if url == "" {
		if testing.Short() {
			t.Skip("needs Redis")
		}
		t.Fatal("TEST_REDIS_URL is not set: run `make test`, or `go test -short`")
	}
	o, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func entry() credential.Entry {
	return credential.Entry{Principal: identity.Principal{Tenant: uuid.New(), KeyID: uuid.NewString(), Scopes: []string{"*"}}}
}

// What Redis returns is believed only under our seal, under its own name, in
// its time, and if nobody has revoked it.
func TestOnlySealedEntriesAreBelieved(t *testing.T) {
	t.Parallel()
	c := client(t)
	cache := redis.NewKeyCache(c, secret.New("pepper"), slog.New(slog.DiscardHandler))
	e, name := entry(), uuid.NewString()
	id := e.Principal.KeyID
	cache.Put(t.Context(), name, e, time.Minute)
	if got, ok := cache.Get(t.Context(), name, id); !ok || got.Principal.Tenant != e.Principal.Tenant {
		t.Fatal(got, ok)
	}
	raw, err := c.Get(t.Context(), "apikey:"+name).Result()
	if err != nil {
		t.Fatal(err)
	}
	other := uuid.NewString()
	for what, value := range map[string]string{
		"another name's entry": raw,
		"a forged entry":       strings.Repeat("x", 32) + raw[32:],
		"a changed entry":      strings.Replace(raw, e.Principal.Tenant.String(), uuid.NewString(), 1),
		"a cut entry":          raw[:10],
		"nothing":              "",
	} {
		at := name
		if value == raw {
			at = other
		}
		if err := c.Set(t.Context(), "apikey:"+at, value, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if _, ok := cache.Get(t.Context(), at, id); ok {
			t.Errorf("%s is believed", what)
		}
	}
	if _, ok := redis.NewKeyCache(c, secret.New("another"), slog.New(slog.DiscardHandler)).Get(t.Context(), name, id); ok {
		t.Error("an entry under another pepper is believed")
	}
}

func TestARevocationOutlivesEveryEntry(t *testing.T) {
	t.Parallel()
	cache := redis.NewKeyCache(client(t), secret.New("pepper"), slog.New(slog.DiscardHandler))
	for _, whole := range []bool{false, true} {
		e, name := entry(), uuid.NewString()
		id := e.Principal.KeyID
		cache.Put(t.Context(), name, e, time.Minute)
		revoked := id
		if whole {
			revoked = ""
		}
		cache.Drop(t.Context(), e.Principal.Tenant, revoked)
		cache.Put(t.Context(), name, e, time.Minute) // by somebody who looked before
		if _, ok := cache.Get(t.Context(), name, id); ok {
			t.Errorf("a revoked key is believed; whole tenant: %v", whole)
		}
	}
}

// All instances draw from one bucket.
func TestBucketsAreShared(t *testing.T) {
	t.Parallel()
	c := client(t)
	one, two := redis.NewBuckets(c), redis.NewBuckets(c)
	name, got := uuid.NewString(), 0
	for _, b := range []*redis.Buckets{one, two, one, two} {
		n, retry, err := b.Take(t.Context(), name, 1, 10, 4)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && retry <= 0 {
			t.Error("an empty bucket does not say when to come back")
		}
		got += n
	}
	if got < 10 || got > 11 {
		t.Errorf("%d were drawn of 10", got)
	}
}
