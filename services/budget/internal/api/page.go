package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// The number of entries on a page: asked for none, and at most.
const (
	pageDefault = 50
	pageMax     = 1000
)

// page is where a list is read: after an entry's key. A token is good for the
// list and the filters it came from, and for no other. It grants nothing:
// whoever forges one moves through a list of their own.
type page struct {
	size  int
	after string
	sum   []byte
}

// readPage reads what a request says. list names the list, its tenant first
// among its filters.
func readPage(size int32, token, list string, filters ...string) (page, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %q", list, filters))
	p := page{size: int(size), sum: h[:8]}
	if size == 0 {
		p.size = pageDefault
	}
	if size < 0 || size > pageMax {
		return p, fault.Field("page_size", "must be between 0 and %d", pageMax)
	}
	if token == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < len(p.sum) {
		return p, fault.Field("page_token", "is not a token of ours")
	}
	if !bytes.Equal(raw[:len(p.sum)], p.sum) {
		return p, fault.Field("page_token", "belongs to another list: send it with the filters it came from")
	}
	p.after = string(raw[len(p.sum):])
	if err := text("page_token", p.after); err != nil {
		return p, err
	}
	return p, nil
}

// next is the token of the page after an entry.
func (p page) next(key string) string {
	return base64.RawURLEncoding.EncodeToString(append(bytes.Clone(p.sum), key...))
}
