package api

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

// newest is where the first page of a newest-first list begins.
var newest = postgres.Position{
	At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	ID: uuid.Max,
}

// token is a position as callers carry it. It tells them nothing and gives them
// no right: what it points at is looked up within their own tenant.
func token(p postgres.Position) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(p.At.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(raw, p.ID[:]...))
}

// position is the reverse of token; "" is the first page.
func position(token string) (postgres.Position, error) {
	if token == "" {
		return newest, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != 24 {
		return postgres.Position{}, fault.Field("page_token", "is not a token that this server gave").WithReason("PAGE_TOKEN_INVALID")
	}
	at := int64(binary.BigEndian.Uint64(raw))
	if at < 0 || at > newest.At.UnixMicro() {
		return postgres.Position{}, fault.Field("page_token", "is not a token that this server gave").WithReason("PAGE_TOKEN_INVALID")
	}
	return postgres.Position{At: time.UnixMicro(at), ID: uuid.UUID(raw[8:])}, nil
}

func pageSize(asked int32, def, most int) int {
	if asked <= 0 {
		return def
	}
	return min(int(asked), most)
}

func orNil(id string) uuid.UUID {
	u, err := uuid.Parse(id)
	if err != nil {
		return uuid.Nil
	}
	return u
}

// timeOf is a timestamp's time; none is the zero time.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// stamp is the reverse of timeOf.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// answered reports whether an agent that waits for an approval has its answer.
func answered(s approval.State) bool { return s != approval.Pending }

// approvalCursor changes with every change of an approval, expiry included.
// approvalCursor differs whenever an approval does. One that clients kept from
// before votes were in it is none of today's: they are told the state once more.
func approvalCursor(a postgres.Approval) string {
	return fmt.Sprintf("%d.%s.%d", a.Version, a.State, a.Votes)
}
