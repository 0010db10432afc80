// Package apikey makes and reads Fulcrum's API keys without any I/O.
//
// A key is
//
//	flcrm_sk_<12 character id>_<43 character secret>_<8 hex digits of CRC-32>
//
// The id is public. The secret is 256 random bits, base64url without padding.
// The checksum covers everything before its underscore, so that a mistyped or
// truncated key is refused before anybody asks a database about it.
package apikey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Prefix starts every key, so that secret scanners can find leaked ones.
const Prefix = "flcrm_sk_"

const (
	idLen     = 12
	secretLen = 43
	sumLen    = 8
	keyLen    = len(Prefix) + idLen + 1 + secretLen + 1 + sumLen
	alphabet  = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// ErrMalformed is the answer to anything that cannot be a key of ours. It says
// nothing about the input.
var ErrMalformed = fault.New(fault.Unauthenticated, "the API key is malformed").
	WithReason("API_KEY_MALFORMED").
	WithHint("Check that the whole key was copied: it starts with " + Prefix + " and has no spaces.")

// Key is a well-formed key. Whether it is anybody's is for a database to say.
type Key struct {
	ID    string // public
	whole secret.Secret
}

// Generate returns a new random key.
func Generate() Key {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it crashes the process instead
	return build(newID(), base64.RawURLEncoding.EncodeToString(raw[:]))
}

// Parse reads a key, or returns ErrMalformed. It does no I/O and accepts
// exactly one spelling of every key.
func Parse(s string) (Key, error) {
	if len(s) != keyLen || s[:len(Prefix)] != Prefix {
		return Key{}, ErrMalformed
	}
	id := s[len(Prefix) : len(Prefix)+idLen]
	body, sum := s[:keyLen-sumLen-1], s[keyLen-sumLen:]
	private := body[len(body)-secretLen:]
	if !isID(id) || s[len(Prefix)+idLen] != '_' || s[len(body)] != '_' || !isSecret(private) || sum != checksum(body) {
		return Key{}, ErrMalformed
	}
	return Key{ID: id, whole: secret.New(s)}, nil
}

// Reveal returns the whole key: to be shown to its owner once, and never kept.
func (k Key) Reveal() string { return k.whole.Reveal() }

// LastFour is the end of the secret part, for people to recognise a key by.
func (k Key) LastFour() string {
	if k.whole.IsZero() {
		return ""
	}
	end := keyLen - sumLen - 1
	return k.whole.Reveal()[end-4 : end]
}

// Hash is HMAC-SHA256 of the whole key under pepper: what a database stores.
func (k Key) Hash(pepper secret.Secret) []byte {
	mac := hmac.New(sha256.New, []byte(pepper.Reveal()))
	mac.Write([]byte(k.whole.Reveal()))
	return mac.Sum(nil)
}

// Matches compares the key with a stored Hash in constant time.
func (k Key) Matches(hash []byte, pepper secret.Secret) bool {
	return hmac.Equal(k.Hash(pepper), hash)
}

// CacheKey is the SHA-256 of the whole key in hex: a name for caches that
// cannot be confused between keys nor turned back into one.
func (k Key) CacheKey() string {
	sum := sha256.Sum256([]byte(k.whole.Reveal()))
	return hex.EncodeToString(sum[:])
}

// String is the public part, for logs.
func (k Key) String() string { return Prefix + k.ID + "_[secret]" }

func build(id, private string) Key {
	body := Prefix + id + "_" + private
	return Key{ID: id, whole: secret.New(body + "_" + checksum(body))}
}

func checksum(body string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) }

// newID draws from the alphabet without bias: 252 is the largest multiple of
// its 36 characters that a byte can hold.
func newID() string {
	id := make([]byte, 0, idLen)
	var b [1]byte
	for len(id) < idLen {
		_, _ = rand.Read(b[:])
		if b[0] < 252 {
			id = append(id, alphabet[int(b[0])%len(alphabet)])
		}
	}
	return string(id)
}

func isID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// isSecret also refuses the spellings whose last character carries bits that
// decoding drops: two different strings must not be one secret.
func isSecret(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s) // skips line breaks, hence the length
	return err == nil && len(raw) == sha256.Size
}
