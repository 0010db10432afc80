package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// leafVersion is the only encoding there is so far: fixed-width integers big
// endian, text behind a length of four bytes, in the order of leaf's fields.
const leafVersion = 1

// leaf is what the log states about one event: the bytes that its tree hashes.
// It is read here from its published description, not by the code that wrote
// it, so that a mistake on one side does not hide on the other.
type leaf struct {
	tenant        uuid.UUID
	index         int64
	event         uuid.UUID
	at            time.Time
	kind          string
	actor         string
	action        string
	resource      string
	decision      string
	policyVersion int64
	payloadHash   [sha256.Size]byte
}

var errShort = errors.New("the leaf ends too early")

func readLeaf(b []byte) (l leaf, err error) {
	if len(b) == 0 || b[0] != leafVersion {
		return l, errors.New("the leaf is of an unknown version")
	}
	r := bytes.NewReader(b[1:])
	var index, at, policyVersion uint64
	var text [5]string
	for _, part := range []any{&l.tenant, &index, &l.event, &at} {
		if binary.Read(r, binary.BigEndian, part) != nil {
			return l, errShort
		}
	}
	for i := range text {
		if text[i], err = readText(r); err != nil {
			return l, err
		}
	}
	for _, part := range []any{&policyVersion, &l.payloadHash} {
		if binary.Read(r, binary.BigEndian, part) != nil {
			return l, errShort
		}
	}
	if r.Len() > 0 {
		return l, fmt.Errorf("the leaf has %d bytes too many", r.Len())
	}
	l.index, l.at, l.policyVersion = int64(index), time.Unix(0, int64(at)).UTC(), int64(policyVersion)
	l.kind, l.actor, l.action, l.resource, l.decision = text[0], text[1], text[2], text[3], text[4]
	return l, nil
}

func readText(r *bytes.Reader) (string, error) {
	var n uint32
	if binary.Read(r, binary.BigEndian, &n) != nil || int64(n) > int64(r.Len()) {
		return "", errShort
	}
	text := make([]byte, n)
	if _, err := r.Read(text); err != nil && n > 0 {
		return "", errShort
	}
	if !utf8.Valid(text) {
		return "", errors.New("the leaf has text that is not UTF-8")
	}
	return string(text), nil
}

// payloadHash is how a leaf names its payload without holding it.
func payloadHash(salt, payload []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(payload)
	return [sha256.Size]byte(h.Sum(nil))
}
