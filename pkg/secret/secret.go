// Package secret holds values that must never be printed, logged or marshalled.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
)

const mask = "[secret]"

// Secret is a string that every printer shows as "[secret]". The zero Secret
// is empty. Copying it is fine; comparing with == is not (use Equal).
type Secret struct {
	// A pointer, because fmt prints what is inside an unexported field of
	// somebody else's struct without asking its methods. It stops at pointers.
	value    *string
	standard bool
	_        [0]func() // forbids ==, which is not constant-time
}

// New wraps a value that somebody configured.
func New(value string) Secret { return Secret{value: &value} }

// Default wraps a value that is written in our source, and so is known to
// everybody: RefuseDefault lets it be used on loopback only.
func Default(value string) Secret { return Secret{value: &value, standard: true} }

// Reveal returns the value. Its callers are the places to review.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether there is no value.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// IsDefault reports whether the value came from our source.
func (s Secret) IsDefault() bool { return s.standard }

// Equal compares in a time that depends on neither value nor its length.
func (s Secret) Equal(candidate string) bool {
	want, got := sha256.Sum256([]byte(s.Reveal())), sha256.Sum256([]byte(candidate))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// RefuseDefault fails when the secret called name is empty or a built-in
// default although the process can be reached at addr from another machine.
func (s Secret) RefuseDefault(name, addr string) error {
	if Loopback(addr) || (!s.standard && !s.IsZero()) {
		return nil
	}
	what := "is not set"
	if s.standard {
		what = "is a built-in default"
	}
	return fmt.Errorf("%s %s, which is allowed on loopback addresses only, not on %s", name, what, addr)
}

// String, GoString, Format, MarshalJSON, MarshalText and LogValue all say
// "[secret]", whatever the verb or encoder.
func (s Secret) String() string { return mask }

// GoString is String, for %#v.
func (s Secret) GoString() string { return mask }

// Format is String, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(mask)) }

// MarshalJSON is String, quoted.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + mask + `"`), nil }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask) }
