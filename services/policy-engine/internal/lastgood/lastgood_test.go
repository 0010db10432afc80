package lastgood_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/lastgood"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/tenants"
)

func client(t *testing.T) *redis.Client {
	t.Helper()
	url := os.Getenv("TEST_REDIS_URL")
	if url == "" && testing.Short() {
		t.Skip("needs Redis")
	}
	if url == "" {
		t.Fatal("TEST_REDIS_URL is not set: run `make test`, or `go test -short`")
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func key(tenant uuid.UUID) string { return "tenant:" + tenant.String() + ":policy:bundle" }

func put(t *testing.T, s *lastgood.Shelf, tenant uuid.UUID, b tenants.Bundle) {
	t.Helper()
	if err := s.Put(t.Context(), tenant, b); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsPutIsTaken(t *testing.T) {
	t.Parallel()
	c, tenant := client(t), uuid.New()
	s := lastgood.New(c, secret.New("a key of the right length"))
	if b, err := s.Take(t.Context(), tenant); err != nil || b.Version != 0 {
		t.Errorf("nothing there: %v, %v", b, err)
	}
	want := tenants.Bundle{Version: 7, Content: []byte{0, 1, 2, 255}}
	put(t, s, tenant, want)
	got, err := s.Take(t.Context(), tenant)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("err %v (-want +got):\n%s", err, diff)
	}
	if ttl := c.TTL(t.Context(), key(tenant)).Val(); ttl <= 0 {
		t.Errorf("it stays for ever: %v", ttl)
	}
}

func TestAnOlderVersionDoesNotReplaceANewer(t *testing.T) {
	t.Parallel()
	c, tenant := client(t), uuid.New()
	s := lastgood.New(c, secret.New("a key of the right length"))
	put(t, s, tenant, tenants.Bundle{Version: 10, Content: []byte("new")})
	put(t, s, tenant, tenants.Bundle{Version: 9, Content: []byte("old")})
	if b, err := s.Take(t.Context(), tenant); err != nil || b.Version != 10 || string(b.Content) != "new" {
		t.Errorf("took %v, %v", b, err)
	}
}

// Redis is not trusted with policies: whoever can write there must not be able
// to write them.
func TestATamperedBundleIsRefused(t *testing.T) {
	t.Parallel()
	c := client(t)
	s := lastgood.New(c, secret.New("a key of the right length"))
	good := tenants.Bundle{Version: 7, Content: []byte("policies")}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, tenant uuid.UUID)
	}{
		{"content", func(t *testing.T, tenant uuid.UUID) { c.HSet(t.Context(), key(tenant), "content", "policiez") }},
		{"version up", func(t *testing.T, tenant uuid.UUID) { c.HSet(t.Context(), key(tenant), "version", "8") }},
		{"version down", func(t *testing.T, tenant uuid.UUID) { c.HSet(t.Context(), key(tenant), "version", "6") }},
		{"version no number", func(t *testing.T, tenant uuid.UUID) { c.HSet(t.Context(), key(tenant), "version", "x") }},
		{"version negative", func(t *testing.T, tenant uuid.UUID) { c.HSet(t.Context(), key(tenant), "version", "-7") }},
		{"signature", func(t *testing.T, tenant uuid.UUID) { c.HSet(t.Context(), key(tenant), "mac", "x") }},
		{"signature gone", func(t *testing.T, tenant uuid.UUID) { c.HDel(t.Context(), key(tenant), "mac") }},
		{"content gone", func(t *testing.T, tenant uuid.UUID) { c.HDel(t.Context(), key(tenant), "content") }},
		{"another type of value", func(t *testing.T, tenant uuid.UUID) {
			c.Del(t.Context(), key(tenant))
			c.Set(t.Context(), key(tenant), "x", 0)
		}},
		{"another tenant's", func(t *testing.T, tenant uuid.UUID) {
			other := uuid.New()
			put(t, s, other, good)
			all := c.HGetAll(t.Context(), key(other)).Val()
			c.HSet(t.Context(), key(tenant), all)
		}},
		{"signed with another key", func(t *testing.T, tenant uuid.UUID) {
			put(t, lastgood.New(c, secret.New("another key of that length")), tenant, tenants.Bundle{Version: 9, Content: []byte("theirs")})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tenant := uuid.New()
			put(t, s, tenant, good)
			tt.change(t, tenant)
			if b, err := s.Take(t.Context(), tenant); err == nil || b.Version != 0 || b.Content != nil {
				t.Errorf("took %v, %v", b, err)
			}
		})
	}
}

func TestRedisAwayIsAnError(t *testing.T) {
	t.Parallel()
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer func() { _ = c.Close() }()
	s := lastgood.New(c, secret.New("a key of the right length"))
	if _, err := s.Take(t.Context(), uuid.New()); err == nil {
		t.Error("Take: no error")
	}
	if err := s.Put(t.Context(), uuid.New(), tenants.Bundle{Version: 1}); err == nil {
		t.Error("Put: no error")
	}
}

func TestKeptNamesTheTenantsThatHaveABundle(t *testing.T) {
	t.Parallel()
	c := client(t)
	s := lastgood.New(c, secret.New("a key of the right length"))
	tenant := uuid.New()
	put(t, s, tenant, tenants.Bundle{Version: 1, Content: []byte("x")})
	c.Set(t.Context(), "tenant:nobody:policy:bundle", "x", time.Minute)
	ids, err := s.Kept(t.Context(), 1<<20)
	if err != nil || !slices.Contains(ids, tenant) {
		t.Errorf("Kept: %v, %v", ids, err)
	}
	if ids, err = s.Kept(t.Context(), 0); err != nil || len(ids) != 0 {
		t.Errorf("Kept none: %v, %v", ids, err)
	}
}
