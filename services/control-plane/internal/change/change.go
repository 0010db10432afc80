// Package change is the vocabulary of changes to a configuration: what is told
// about one, what makes a repeated one harmless, and what a state is called.
package change

import (
	"crypto/sha256"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Fact is what the record says about one change. Before and After hold no
// secrets; the one that does not exist is nil.
type Fact struct {
	Type     string // of the event, like "policy_created"
	Action   string // like "policy.create"
	Resource string // like "policy:<id>"
	Before   proto.Message
	After    proto.Message
}

// Once makes a creating call harmless to repeat. The zero Once is a call whose
// caller did not ask for that.
type Once struct {
	Key  string
	Hash []byte // of what was asked for
}

// MaxKey is the longest idempotency key, in bytes.
const MaxKey = 128

// NewOnce names a call by the caller's key, and the body that the key stands
// for by a hash of method and request.
func NewOnce(key, method string, req proto.Message) (Once, error) {
	if key == "" {
		return Once{}, nil
	}
	if len(key) > MaxKey {
		return Once{}, fault.Field("idempotency-key", "is longer than %d bytes", MaxKey)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return Once{}, fault.Field("idempotency-key", "may hold only visible ASCII characters")
		}
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return Once{}, fmt.Errorf("hash request of %s: %w", method, err)
	}
	h := sha256.New()
	h.Write([]byte(method))
	h.Write([]byte{0})
	h.Write(body)
	return Once{Key: key, Hash: h.Sum(nil)}, nil
}

// KeyReused says that an idempotency key stands for another request already.
func KeyReused() error {
	return fault.New(fault.Conflict, "this idempotency key was used for another request").
		WithReason("IDEMPOTENCY_KEY_REUSED").
		WithHint("Send a new key with a new request; repeat a key only with the same body.")
}

// Etag names a revision to callers. They compare it and read nothing from it.
func Etag(revision int64) string { return "r" + strconv.FormatInt(revision, 36) }

// Revision is the inverse of Etag; 0 names no revision there ever was.
func Revision(etag string) int64 {
	if len(etag) < 2 || etag[0] != 'r' {
		return 0
	}
	n, err := strconv.ParseInt(etag[1:], 36, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Stale says that what the caller changes has changed since it was read.
func Stale(resource string) error {
	return fault.New(fault.Conflict, "the %s has changed since it was read", resource).
		WithReason("ETAG_MISMATCH").
		WithHint("Read it again, apply the change to what is there now, and send the new etag.")
}
