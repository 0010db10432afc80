package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// The events on a page: asked for none, and at most.
const (
	defaultPage = 100
	maxPage     = 1000
)

func pageSize(asked int32) (int, error) {
	switch {
	case asked < 0 || asked > maxPage:
		return 0, fault.Field("limit", "must be between 0 and %d", maxPage)
	case asked == 0:
		return defaultPage, nil
	}
	return int(asked), nil
}

// list names one list of events: a token is good for the list it came from.
type list struct {
	tenant     uuid.UUID
	kind       string
	filter     journal.Filter
	descending bool
}

func (l list) sum() []byte {
	// Printing a map sorts its keys.
	f := l.filter
	text := fmt.Sprintf("%s %s %q %q %q %d %d %q %t", l.tenant, l.kind, f.Execution, f.Workflow, f.Type,
		f.From.UnixNano(), f.To.UnixNano(), f.Labels, l.descending)
	sum := sha256.Sum256([]byte(text))
	return sum[:8]
}

// place is how far a reader has come in a list.
type place struct {
	last  int64 // the position or number of the last event of the page
	total int64 // what was counted on the first page
}

// token grants nothing: whoever forges one moves through a list of their own.
func (l list) token(p place) string {
	b := binary.AppendUvarint(l.sum(), uint64(p.last))
	return base64.RawURLEncoding.EncodeToString(binary.AppendUvarint(b, uint64(p.total)))
}

// place reads a token. It returns false for the first page, and a fault.Invalid
// for a token of another list.
func (l list) place(token string) (p place, ok bool, err error) {
	if token == "" {
		return p, false, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 10 {
		return p, false, fault.Field("page_token", "is not a token of ours")
	}
	if !bytes.Equal(raw[:8], l.sum()) {
		return p, false, fault.Field("page_token", "belongs to another list: send it with the filters it came from")
	}
	last, n := binary.Uvarint(raw[8:])
	if n <= 0 {
		return p, false, fault.Field("page_token", "is not a token of ours")
	}
	total, m := binary.Uvarint(raw[8+n:])
	if m <= 0 || 8+n+m != len(raw) || int64(last) < 0 || int64(total) < 0 {
		return p, false, fault.Field("page_token", "is not a token of ours")
	}
	return place{int64(last), int64(total)}, true, nil
}
