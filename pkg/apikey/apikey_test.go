package apikey

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// The form of a key and of its hash are stored by customers and by databases:
// they never change. Computed with another program.
const (
	golden       = "flcrm_sk_0123456789ab_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8_5fe43467"
	goldenPepper = "pepper"
	goldenHash   = "c90332b0ce802837d4fabcdaeca22a2bd21bd52c635495fb3a32e8aceb2b91df"
	goldenCache  = "8598b62649b0d5f98fb9dd397c9880cc3062d8fb7af079233a86da2668434977"
)

func TestGoldenKey(t *testing.T) {
	t.Parallel()
	k, err := Parse(golden)
	if err != nil {
		t.Fatal(err)
	}
	if k.ID != "0123456789ab" || k.LastFour() != "dHh8" {
		t.Errorf("id %q, last four %q", k.ID, k.LastFour())
	}
	if got := hex.EncodeToString(k.Hash(secret.New(goldenPepper))); got != goldenHash {
		t.Errorf("hash %s, want %s", got, goldenHash)
	}
	if got := k.CacheKey(); got != goldenCache {
		t.Errorf("cache key %s, want %s", got, goldenCache)
	}
}

func TestGeneratedKeysParseAndDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		k := Generate()
		back, err := Parse(k.Reveal())
		if err != nil {
			t.Fatalf("%s: %v", k.Reveal(), err)
		}
		if back.ID != k.ID || back.Reveal() != k.Reveal() || len(k.ID) != 12 {
			t.Fatalf("%v came back as %v", k, back)
		}
		if seen[k.ID] || seen[k.Reveal()] {
			t.Fatal("the same key twice")
		}
		seen[k.ID], seen[k.Reveal()] = true, true
	}
}

func TestParseRefusesEverythingElse(t *testing.T) {
	t.Parallel()
	flip := func(i int, c byte) string {
		b := []byte(golden)
		b[i] = c
		return string(b)
	}
	body := golden[:len(golden)-9]
	withSum := func(body string) string { return body + "_" + checksum(body) }
	for name, s := range map[string]string{
		"nothing":              "",
		"the prefix alone":     Prefix,
		"another prefix":       withSum("flcrm_pk" + body[8:]),
		"one character less":   golden[:len(golden)-1],
		"one character more":   golden + "0",
		"a space before":       " " + golden[:len(golden)-1],
		"a wrong checksum":     flip(len(golden)-1, '0'),
		"an upper case sum":    body + "_" + strings.ToUpper(checksum(body)),
		"a mistyped secret":    flip(30, 'x'),
		"a mistyped id":        flip(10, 'x'),
		"upper case in the id": withSum(Prefix + "0123456789AB" + body[21:]),
		"no base64":            withSum(body[:30] + "!" + body[31:]),
		"a line break inside":  withSum(body[:30] + "\n" + body[31:]),
		"stray low bits":       withSum(body[:len(body)-1] + "9"),
		"no second underscore": withSum(body[:21] + "x" + body[22:]),
		"a very long input":    strings.Repeat("a", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if k, err := Parse(s); !errors.Is(err, ErrMalformed) || !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("Parse = %v, %v", k, err)
			}
		})
	}
}

func TestEveryTypoIsNoticed(t *testing.T) {
	t.Parallel()
	for i := range golden {
		for _, c := range []byte("0aZ_-") {
			if golden[i] == c {
				continue
			}
			b := []byte(golden)
			b[i] = c
			if _, err := Parse(string(b)); err == nil {
				t.Errorf("%q instead of %q at %d was not noticed", c, golden[i], i)
			}
		}
	}
}

func TestOnlyTheSameKeyUnderTheSamePepperMatches(t *testing.T) {
	t.Parallel()
	k, other := Generate(), Generate()
	pepper := secret.New("p1")
	hash := k.Hash(pepper)
	switch {
	case !k.Matches(hash, pepper):
		t.Error("a key does not match its own hash")
	case other.Matches(hash, pepper), k.Matches(hash, secret.New("p2")), k.Matches(hash[:31], pepper), k.Matches(nil, pepper):
		t.Error("something else matches")
	case bytes.Contains(hash, []byte(k.ID)):
		t.Error("the hash holds the key")
	}
}

func TestAKeyDoesNotPrint(t *testing.T) {
	t.Parallel()
	k := Generate()
	private := k.Reveal()[22:]
	if out := fmt.Sprintf("%v %+v %#v %s %q", k, k, k, k, k); strings.Contains(out, private) {
		t.Errorf("the secret leaked: %s", out)
	}
	if (Key{}).LastFour() != "" {
		t.Error("the zero key has four characters")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(golden)
	f.Add(Prefix)
	f.Add(strings.Replace(golden, "_", "-", 1))
	f.Fuzz(func(t *testing.T, s string) {
		k, err := Parse(s)
		if err != nil {
			if k.ID != "" || !errors.Is(err, ErrMalformed) {
				t.Fatalf("Parse(%q) = %v, %v", s, k, err)
			}
			return
		}
		if k.Reveal() != s || build(k.ID, s[22:65]).Reveal() != s {
			t.Fatalf("%q has another spelling", s)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(golden); err != nil {
			b.Fatal(err)
		}
	}
}
