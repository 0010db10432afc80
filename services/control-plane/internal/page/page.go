// Package page makes lists that are read a page at a time.
package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// The number of entries on a page: asked for none, and at most.
const (
	Default = 50
	Max     = 1000
)

// Size is how many entries to return for an asked page_size.
func Size(asked int32) (int, error) {
	switch {
	case asked < 0 || asked > Max:
		return 0, fault.Field("page_size", "must be between 0 and %d", Max)
	case asked == 0:
		return Default, nil
	}
	return int(asked), nil
}

// List names one list: a tenant's, of one kind, through one filter. A token is
// good for the list it came from and for no other.
type List struct {
	Tenant uuid.UUID
	Kind   string
	Filter []string
}

func (l List) sum() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %q", l.Tenant, l.Kind, l.Filter)
	return h.Sum(nil)[:8]
}

// Token says where the next page begins: after the entry that after describes.
// It grants nothing; whoever forges one moves through a list of their own.
func Token(l List, after any) (string, error) {
	position, err := json.Marshal(after)
	if err != nil {
		return "", fmt.Errorf("encode page token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(l.sum(), position...)), nil
}

// Read restores what Token was given into after. It returns false for the
// first page, and an Invalid fault for a token of another list.
func Read(l List, token string, after any) (bool, error) {
	if token == "" {
		return false, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 8 {
		return false, fault.Field("page_token", "is not a token of ours")
	}
	if !bytes.Equal(raw[:8], l.sum()) {
		return false, fault.Field("page_token", "belongs to another list: send it with the filters it came from")
	}
	d := json.NewDecoder(strings.NewReader(string(raw[8:])))
	d.DisallowUnknownFields()
	if err := d.Decode(after); err != nil {
		return false, fault.Field("page_token", "is not a token of ours")
	}
	return true, nil
}

// Cut returns the first size entries, and the token after them if there are
// more. Ask the store for size+1.
func Cut[T any](l List, entries []T, size int, position func(T) any) ([]T, string, error) {
	if len(entries) <= size {
		return entries, "", nil
	}
	entries = entries[:size]
	token, err := Token(l, position(entries[size-1]))
	return entries, token, err
}
