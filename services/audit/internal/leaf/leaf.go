// Package leaf encodes one event's facts as the bytes that the tree hashes.
package leaf

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Version is the first byte of every leaf; a new encoding gets a new one.
const Version = 1

// SaltSize is how many random bytes keep a payload's hash from being guessed.
const SaltSize = 16

// Leaf is what the log states about one event. The payload is only present as
// a salted hash, so it can be erased without breaking a proof.
type Leaf struct {
	Tenant        uuid.UUID
	Index         int64
	Event         uuid.UUID
	At            time.Time // to the nanosecond, UTC
	Type          string
	Actor         string
	Action        string
	Resource      string
	Decision      string
	PolicyVersion int64
	PayloadHash   [sha256.Size]byte // PayloadHash(salt, payload)
}

// PayloadHash is SHA-256(salt ‖ payload).
func PayloadHash(salt, payload []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(payload)
	return [sha256.Size]byte(h.Sum(nil))
}

// Encode returns the leaf's one encoding: fixed-width integers big endian,
// strings behind a four-byte length, in the order of the struct.
func (l Leaf) Encode() []byte {
	b := make([]byte, 0, 160+len(l.Type)+len(l.Actor)+len(l.Action)+len(l.Resource)+len(l.Decision))
	b = append(b, Version)
	b = append(b, l.Tenant[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Index))
	b = append(b, l.Event[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(l.At.UnixNano()))
	for _, s := range []string{l.Type, l.Actor, l.Action, l.Resource, l.Decision} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(l.PolicyVersion))
	return append(b, l.PayloadHash[:]...)
}

// Decode reads what Encode wrote and refuses everything else.
func Decode(b []byte) (Leaf, error) {
	var l Leaf
	if len(b) == 0 || b[0] != Version {
		return l, errors.New("leaf: unknown version")
	}
	d := decoder{rest: b[1:]}
	copy(l.Tenant[:], d.take(16))
	l.Index = int64(d.uint64())
	copy(l.Event[:], d.take(16))
	l.At = time.Unix(0, int64(d.uint64())).UTC()
	for _, s := range []*string{&l.Type, &l.Actor, &l.Action, &l.Resource, &l.Decision} {
		*s = d.string()
	}
	l.PolicyVersion = int64(d.uint64())
	copy(l.PayloadHash[:], d.take(sha256.Size))
	switch {
	case d.err != nil:
		return Leaf{}, d.err
	case len(d.rest) != 0:
		return Leaf{}, fmt.Errorf("leaf: %d bytes too many", len(d.rest))
	case l.Index < 0:
		return Leaf{}, errors.New("leaf: negative index")
	}
	return l, nil
}

// decoder takes fields off the front; the first shortage sticks.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || len(d.rest) < n {
		d.err = errors.New("leaf: too short")
		return make([]byte, min(n, 64))
	}
	head := d.rest[:n]
	d.rest = d.rest[n:]
	return head
}

func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *decoder) string() string {
	n := binary.BigEndian.Uint32(d.take(4))
	if d.err == nil && int64(n) > int64(len(d.rest)) {
		d.err = errors.New("leaf: too short")
	}
	if d.err != nil {
		return ""
	}
	s := string(d.take(int(n)))
	if !utf8.ValidString(s) {
		d.err = errors.New("leaf: text is not UTF-8")
	}
	return s
}
