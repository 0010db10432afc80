package ledger

import (
	"encoding/binary"
	"strings"
	"time"
)

// Pack appends r in a form without pointers, for those who keep many: the
// collector does not look into it. Times are kept to the microsecond, as in the
// database; Ref is not part of it.
func (r *Reservation) Pack(b []byte) []byte {
	b = append(b, r.Hash[:]...)
	for _, n := range r.Amounts {
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendVarint(b, r.CreatedAt.UnixMicro())
	b = binary.AppendVarint(b, r.ExpiresAt.UnixMicro())
	b = binary.AppendUvarint(b, uint64(len(r.Parts)))
	for _, key := range r.Parts {
		b = appendText(binary.AppendVarint(b, key.Start), key.Budget)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Behind)))
	for _, at := range r.Behind {
		b = appendText(appendText(binary.AppendVarint(b, at.Key.Start), at.Key.Budget), at.Via.Budget)
	}
	s := &r.Subject
	for _, text := range [...]string{r.PriceVersion, s.Team, s.AgentID, s.UserID, s.WorkflowID, s.APIKeyID, s.Model, s.EnvelopeID} {
		b = appendText(b, text)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Unpack is the reservation that Pack made b of.
func Unpack(ref Ref, b []byte) *Reservation {
	r := &Reservation{Ref: ref}
	u := unpacker{rest: b[copy(r.Hash[:], b):]}
	u.text = string(u.rest)
	for i := range r.Amounts {
		r.Amounts[i] = u.int()
	}
	r.CreatedAt, r.ExpiresAt = u.time(), u.time()
	r.Parts = make([]WindowKey, u.count())
	for i := range r.Parts {
		r.Parts[i] = WindowKey{Tenant: ref.Tenant, Start: u.int(), Budget: strings.Clone(u.string())}
	}
	if n := u.count(); n > 0 {
		r.Behind = make([]Behind, n)
	}
	for i := range r.Behind {
		key := WindowKey{Tenant: ref.Tenant, Start: u.int(), Budget: strings.Clone(u.string())}
		r.Behind[i] = BehindOf(key, strings.Clone(u.string()))
	}
	s := &r.Subject
	for _, text := range [...]*string{&r.PriceVersion, &s.Team, &s.AgentID, &s.UserID, &s.WorkflowID, &s.APIKeyID, &s.Model, &s.EnvelopeID} {
		*text = u.string()
	}
	return r
}

// unpacker reads what Pack wrote. All texts share one copy; names of budgets, which
// outlive the batch as keys of what is remembered, get their own.
type unpacker struct {
	rest []byte
	text string // the whole of it
}

func (u *unpacker) int() int64 {
	v, n := binary.Varint(u.rest)
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) count() uint64 {
	v, n := binary.Uvarint(u.rest)
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) time() time.Time { return time.UnixMicro(u.int()).UTC() }

func (u *unpacker) string() string {
	n := u.count()
	at := len(u.text) - len(u.rest)
	u.rest = u.rest[n:]
	return u.text[at : at+int(n)]
}
