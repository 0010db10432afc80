package credential_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
)

var pepper = secret.New("pepper")

// shelf is a database of keys.
type shelf struct {
	mu    sync.Mutex // guards the rest
	keys  map[string]credential.Stored
	looks atomic.Int64
	wait  chan struct{} // if set, looks wait for it after reading
}

func (s *shelf) FindKey(_ context.Context, id string) (credential.Stored, bool, error) {
	s.looks.Add(1)
	s.mu.Lock()
	k, ok := s.keys[id]
	wait := s.wait
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return k, ok, nil
}

func (s *shelf) put(k apikey.Key, change func(*credential.Stored)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := credential.Stored{Tenant: uuid.New(), KeyID: k.ID, Hash: k.Hash(pepper), PepperVersion: 1, Scopes: []string{"*"}, TenantActive: true}
	if change != nil {
		change(&stored)
	}
	s.keys[k.ID] = stored
}

func newShelf() *shelf { return &shelf{keys: make(map[string]credential.Stored)} }

func authenticator(s *shelf, change ...func(*credential.Options)) *credential.Authenticator {
	o := credential.Options{
		Keys: s, Peppers: map[int]secret.Secret{1: pepper}, AdminKey: secret.New("the administrator's key"), Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	return credential.New(o)
}

// Every key that is not good gets one and the same answer.
func TestBadKeysGetOneAnswer(t *testing.T) {
	t.Parallel()
	s := newShelf()
	good := apikey.Generate()
	s.put(good, nil)
	a := authenticator(s)
	if p, err := a.Authenticate(t.Context(), good.Reveal()); err != nil || p.KeyID != good.ID {
		t.Fatal(p, err)
	}
	for name, change := range map[string]func(*credential.Stored){
		"wrong secret":    func(k *credential.Stored) { k.Hash = apikey.Generate().Hash(pepper) },
		"revoked":         func(k *credential.Stored) { k.Revoked = true },
		"expired":         func(k *credential.Stored) { k.ExpiresAt = time.Now().Add(-time.Second) },
		"suspended":       func(k *credential.Stored) { k.TenantActive = false },
		"another pepper":  func(k *credential.Stored) { k.PepperVersion = 2 },
		"hash left empty": func(k *credential.Stored) { k.Hash = nil },
	} {
		k := apikey.Generate()
		s.put(k, change)
		if _, err := a.Authenticate(t.Context(), k.Reveal()); !errors.Is(err, credential.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Authenticate(t.Context(), apikey.Generate().Reveal()); !errors.Is(err, credential.ErrInvalid) {
		t.Errorf("unknown: %v", err)
	}
	// What is stored is not a credential.
	if _, err := a.Authenticate(t.Context(), string(good.Hash(pepper))); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the stored hash: %v", err)
	}
	if p, err := a.Authenticate(t.Context(), "the administrator's key"); err != nil || !p.Admin || p.Tenant != uuid.Nil {
		t.Errorf("administrator: %v, %v", p, err)
	}
}

// A malformed key asks nobody; a good one asks once while it is remembered.
func TestWhatCostsALook(t *testing.T) {
	t.Parallel()
	s := newShelf()
	a := authenticator(s)
	for _, bad := range []string{"", "x", "flcrm_sk_", strings.Repeat("A", 9000), apikey.Generate().Reveal()[:73], "' or 1=1 --"} {
		if _, err := a.Authenticate(t.Context(), bad); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if n := s.looks.Load(); n != 0 {
		t.Errorf("%d looks for malformed keys", n)
	}
	k := apikey.Generate()
	s.put(k, nil)
	for range 100 {
		if _, err := a.Authenticate(t.Context(), k.Reveal()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.looks.Load(); n != 1 {
		t.Errorf("%d looks for one key", n)
	}
}

// A remembered key still expires on time.
func TestARememberedKeyExpires(t *testing.T) {
	t.Parallel()
	s, now := newShelf(), time.Now()
	k := apikey.Generate()
	s.put(k, func(k *credential.Stored) { k.ExpiresAt = now.Add(time.Second) })
	a := authenticator(s, func(o *credential.Options) { o.Now = func() time.Time { return now } })
	if _, err := a.Authenticate(t.Context(), k.Reveal()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	if _, err := a.Authenticate(t.Context(), k.Reveal()); !errors.Is(err, credential.ErrInvalid) {
		t.Error(err)
	}
}

// A revocation is obeyed at once, also by a look that began before it.
func TestARevocationIsObeyedAtOnce(t *testing.T) {
	t.Parallel()
	s := newShelf()
	k := apikey.Generate()
	s.put(k, nil)
	a := authenticator(s)
	p, err := a.Authenticate(t.Context(), k.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	s.put(k, func(k *credential.Stored) { k.Revoked = true })
	a.Revoke(t.Context(), p.Tenant, k.ID)
	if _, err := a.Authenticate(t.Context(), k.Reveal()); !errors.Is(err, credential.ErrInvalid) {
		t.Errorf("after the revocation: %v", err)
	}

	// The look reads the key, then it is revoked, then the look ends.
	slow := apikey.Generate()
	s.put(slow, nil)
	s.wait = make(chan struct{})
	looked := make(chan error, 1)
	before := s.looks.Load()
	go func() {
		_, err := a.Authenticate(context.WithoutCancel(t.Context()), slow.Reveal())
		looked <- err
	}()
	for s.looks.Load() == before {
		time.Sleep(time.Millisecond)
	}
	s.put(slow, func(k *credential.Stored) { k.Revoked = true })
	a.Revoke(t.Context(), uuid.Nil, slow.ID)
	close(s.wait)
	<-looked // may be either: it overlaps the revocation
	if _, err := a.Authenticate(t.Context(), slow.Reveal()); !errors.Is(err, credential.ErrInvalid) {
		t.Errorf("a look from before the revocation is remembered: %v", err)
	}
}

// deaf is a shared cache that has a key and never hears that it ended.
type deaf struct{ e credential.Entry }

func (d deaf) Get(context.Context, string, string) (credential.Entry, bool) { return d.e, true }
func (d deaf) Put(context.Context, string, credential.Entry, time.Duration) {}
func (d deaf) Drop(_ context.Context, _ uuid.UUID, _ string)                {}

// While the shared cache is being told of a revocation, or cannot be, a look
// must not bring back from there what was just forgotten here.
func TestTheSharedCacheCannotBringBackARevokedKey(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		s := newShelf()
		k := apikey.Generate()
		s.put(k, nil)
		p, err := authenticator(s).Authenticate(t.Context(), k.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		a := authenticator(s, func(o *credential.Options) { o.Cache = deaf{credential.Entry{Principal: p}} })
		if _, err := a.Authenticate(t.Context(), k.Reveal()); err != nil {
			t.Fatal(err)
		}
		s.put(k, func(k *credential.Stored) { k.Revoked = true })
		id := k.ID
		if whole {
			id = ""
		}
		a.Revoke(t.Context(), p.Tenant, id)
		if _, err := a.Authenticate(t.Context(), k.Reveal()); !errors.Is(err, credential.ErrInvalid) {
			t.Errorf("all of the tenant's keys: %v; after the revocation: %v", whole, err)
		}
	}
}

// stalled is a shared cache that does not answer who tells it something.
type stalled struct {
	deaf
	until chan struct{}
}

func (s stalled) Drop(context.Context, uuid.UUID, string) { <-s.until }

// A shared cache that hangs holds up neither a revocation nor the next one.
func TestARevocationDoesNotWaitForTheSharedCache(t *testing.T) {
	t.Parallel()
	s := newShelf()
	until := make(chan struct{})
	a := authenticator(s, func(o *credential.Options) { o.Cache = stalled{until: until} })
	defer a.Close()
	defer close(until)
	for range 2 {
		k := apikey.Generate()
		s.put(k, nil)
		p, err := a.Authenticate(t.Context(), k.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		s.put(k, func(k *credential.Stored) { k.Revoked = true })
		a.Revoke(t.Context(), p.Tenant, k.ID)
		if _, err := a.Authenticate(t.Context(), k.Reveal()); !errors.Is(err, credential.ErrInvalid) {
			t.Errorf("after the revocation: %v", err)
		}
	}
}

// Suspending a tenant forgets all its keys.
func TestATenantsKeysAreForgottenTogether(t *testing.T) {
	t.Parallel()
	s := newShelf()
	tenant := uuid.New()
	var keys []apikey.Key
	a := authenticator(s)
	for range 3 {
		k := apikey.Generate()
		s.put(k, func(k *credential.Stored) { k.Tenant = tenant })
		keys = append(keys, k)
		if _, err := a.Authenticate(t.Context(), k.Reveal()); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range keys {
		s.put(k, func(k *credential.Stored) { k.Tenant, k.TenantActive = tenant, false })
	}
	a.Revoke(t.Context(), tenant, "")
	for _, k := range keys {
		if _, err := a.Authenticate(t.Context(), k.Reveal()); !errors.Is(err, credential.ErrInvalid) {
			t.Error(err)
		}
	}
}

func TestFindingTheCredential(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		authorization, apiKey []string
		want                  string
		err                   error
	}{
		"bearer":              {[]string{"Bearer k"}, nil, "k", nil},
		"bearer in lower":     {[]string{"bearer k"}, nil, "k", nil},
		"api key":             {nil, []string{"k"}, "k", nil},
		"nothing":             {nil, nil, "", credential.ErrMissing},
		"both":                {[]string{"Bearer k"}, []string{"k"}, "", credential.ErrAmbiguous},
		"two authorizations":  {[]string{"Bearer k", "Bearer l"}, nil, "", credential.ErrAmbiguous},
		"another scheme":      {[]string{"Basic a2s="}, nil, "", credential.ErrScheme},
		"no scheme":           {[]string{"k"}, nil, "", credential.ErrScheme},
		"bearer of nothing":   {[]string{"Bearer "}, nil, "", credential.ErrScheme},
		"more than one space": {[]string{"Bearer  k"}, nil, " k", nil}, // no key of ours, so refused next
	} {
		if got, err := credential.Find(test.authorization, test.apiKey); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Whatever comes in the authorization header, it is a credential or refused,
// and nobody is asked about what cannot be a key.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"Bearer " + apikey.Generate().Reveal(), "Bearer x", "", "Basic x", "bearer \x00", "Bearer flcrm_sk_aaaaaaaaaaaa_"} {
		f.Add(seed)
	}
	s := newShelf()
	a := authenticator(s)
	f.Fuzz(func(t *testing.T, header string) {
		shown, err := credential.Find([]string{header}, nil)
		if err != nil {
			return
		}
		before := s.looks.Load()
		_, parsed := apikey.Parse(shown)
		p, err := a.Authenticate(t.Context(), shown)
		if err == nil && !p.Admin {
			t.Fatalf("%q was let in as %v", header, p)
		}
		if parsed != nil && s.looks.Load() != before {
			t.Fatalf("%q cost a look", header)
		}
	})
}
