// Package vault keeps secrets that are stored in a database from whoever reads
// the database: each is sealed with a data key of its own, and that is wrapped
// by a key-encryption key that only the process has.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Sealed is a secret as it is stored.
type Sealed struct {
	Data    []byte // under the data key
	DataKey []byte // under the key-encryption key
	KEK     string // names that one
}

// Vault seals and opens. The zero Vault has no key: it can do neither, and says
// what is missing. Safe for concurrent use.
type Vault struct {
	setting string
	current string
	keks    map[string]cipher.AEAD
}

const keySize = 32 // AES-256

// New returns a Vault that seals with current and opens what current or
// previous sealed. Both are 32 bytes in base64; either may be empty. Its refusals
// tell the operator the name of the setting that holds current; previous is
// expected in the one with _PREVIOUS behind it.
func New(setting string, current, previous secret.Secret) (*Vault, error) {
	v := &Vault{setting: setting, keks: make(map[string]cipher.AEAD, 2)}
	for _, k := range []struct {
		name string
		key  secret.Secret
	}{{"previous", previous}, {"current", current}} {
		if k.key.IsZero() {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(k.key.Reveal())
		if err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("the %s key-encryption key is not %d bytes in base64: make one with: openssl rand -base64 %d", k.name, keySize, keySize)
		}
		aead, err := gcm(raw)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("fulcrum key-encryption key\n"), raw...))
		id := hex.EncodeToString(sum[:8])
		v.keks[id] = aead
		if k.name == "current" {
			v.current = id
		}
	}
	return v, nil
}

// Current names the key that seals, "" without one.
func (v *Vault) Current() string { return v.current }

// noKey says what is missing. It is a Precondition fault.
func (v *Vault) noKey() error {
	return fault.New(fault.Precondition, "there is no key-encryption key, so no secret can be kept").
		WithReason("KEK_MISSING").
		WithHint(fmt.Sprintf("Set %[1]s or %[1]s_FILE to 32 bytes in base64 (openssl rand -base64 32) and start the service anew.", v.setting))
}

// Seal encrypts plain under a new data key, bound to name: it opens under the
// same name only.
func (v *Vault) Seal(name []byte, plain secret.Secret) (Sealed, error) {
	if v.current == "" {
		return Sealed{}, v.noKey()
	}
	dataKey := make([]byte, keySize)
	rand.Read(dataKey)
	aead, err := gcm(dataKey)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{
		Data:    encrypt(aead, []byte(plain.Reveal()), name),
		DataKey: encrypt(v.keks[v.current], dataKey, name),
		KEK:     v.current,
	}, nil
}

// Open returns what was sealed under name.
func (v *Vault) Open(name []byte, s Sealed) (secret.Secret, error) {
	dataKey, err := v.unwrap(name, s)
	if err != nil {
		return secret.Secret{}, err
	}
	aead, err := gcm(dataKey)
	if err != nil {
		return secret.Secret{}, err
	}
	plain, err := decrypt(aead, s.Data, name)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("open a sealed key: %w", err)
	}
	return secret.New(string(plain)), nil
}

// Rewrap wraps the data key by the current key-encryption key. What is sealed
// stays as it is.
func (v *Vault) Rewrap(name []byte, s Sealed) (Sealed, error) {
	if v.current == "" {
		return Sealed{}, v.noKey()
	}
	dataKey, err := v.unwrap(name, s)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{Data: s.Data, DataKey: encrypt(v.keks[v.current], dataKey, name), KEK: v.current}, nil
}

func (v *Vault) unwrap(name []byte, s Sealed) ([]byte, error) {
	kek := v.keks[s.KEK]
	if kek == nil {
		return nil, fault.New(fault.Precondition, "the secret is wrapped by key-encryption key %s, which this process does not have", s.KEK).
			WithReason("KEK_UNKNOWN").WithHint("Give the service that key as " + v.setting + "_PREVIOUS.")
	}
	dataKey, err := decrypt(kek, s.DataKey, name)
	if err != nil {
		return nil, fmt.Errorf("unwrap a data key: %w", err)
	}
	return dataKey, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// encrypt begins with the nonce.
func encrypt(aead cipher.AEAD, plain, name []byte) []byte { return aead.Seal(nil, nil, plain, name) }

var errTampered = errors.New("it was changed, or moved from where another name belongs")

func decrypt(aead cipher.AEAD, sealed, name []byte) ([]byte, error) {
	plain, err := aead.Open(nil, nil, sealed, name)
	if err != nil {
		return nil, errTampered
	}
	return plain, nil
}
