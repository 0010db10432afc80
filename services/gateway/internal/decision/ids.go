package decision

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
)

// fingerprint recognises a request that is sent again: the same method, body
// and caller. Another key must not be served an answer that policies and
// budgets gave to this one.
func fingerprint(scope string, who identity.Principal, req proto.Message) ([sha256.Size]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("fingerprint %s: %w", scope, err)
	}
	return digest(scope, who.KeyID, who.AgentID, who.Team, who.UserID, string(body)), nil
}

// derive names something after a claim, so that a call which is repeated after
// a lost answer or a crash finds what it left behind. The day keeps a key that
// is used anew after its 24 hours from finding what is long settled.
func derive(kind string, tenant uuid.UUID, c Claim, now time.Time) uuid.UUID {
	return idFrom(digest(kind, tenant.String(), c.Scope, c.Key, string(c.Hash[:]), fmt.Sprint(c.Attempt), now.UTC().Format(time.DateOnly)))
}

func idFrom(sum [sha256.Size]byte) uuid.UUID {
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8: the application's own
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ledgerKey is the idempotency key under which the ledger knows a call.
func ledgerKey(scope string, decision uuid.UUID, key string) string {
	sum := digest(scope, decision.String(), key)
	return "gw:" + scope + ":" + hex.EncodeToString(sum[:20])
}

// digest hashes parts with their lengths, so that no two lists of parts are
// the same bytes.
func digest(parts ...string) [sha256.Size]byte {
	h := sha256.New()
	var size [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
