package ledger_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func TestAReservationComesBackFromItsPackedForm(t *testing.T) {
	t.Parallel()
	text := rapid.StringN(0, 40, 200)
	moment := rapid.Custom(func(rt *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(-62135596800000000, 253402300799999999).Draw(rt, "µs")).UTC()
	})
	rapid.Check(t, func(rt *rapid.T) {
		ref := ledger.Ref{Tenant: uuid.New(), ID: uuid.New()}
		key := rapid.Custom(func(rt *rapid.T) ledger.WindowKey {
			return ledger.WindowKey{Tenant: ref.Tenant, Budget: text.Draw(rt, "budget"), Start: rapid.Int64().Draw(rt, "start")}
		})
		want := &ledger.Reservation{
			Ref: ref, PriceVersion: text.Draw(rt, "price"), CreatedAt: moment.Draw(rt, "created"), ExpiresAt: moment.Draw(rt, "expires"),
			Subject: catalog.Subject{
				Team: text.Draw(rt, "team"), AgentID: text.Draw(rt, "agent"), UserID: text.Draw(rt, "user"), WorkflowID: text.Draw(rt, "workflow"),
				APIKeyID: text.Draw(rt, "key"), Model: text.Draw(rt, "model"), EnvelopeID: text.Draw(rt, "envelope"),
			},
			Parts: rapid.SliceOfN(key, 0, 5).Draw(rt, "parts"),
		}
		copy(want.Hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "hash"))
		for u := range amount.Units {
			want.Amounts[u] = rapid.Int64().Draw(rt, "amount")
		}
		for range rapid.IntRange(0, 3).Draw(rt, "behind") {
			want.Behind = append(want.Behind, ledger.BehindOf(key.Draw(rt, "behind"), text.Draw(rt, "via")))
		}
		before := []byte("what was there")
		got := ledger.Unpack(ref, want.Pack(before)[len(before):])
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("came back as\n%+v, was\n%+v", got, want)
		}
	})
}

// A field that Pack does not know would be forgotten without a word.
func TestPackKnowsEveryFieldOfAReservation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of    reflect.Type
		known int
	}{
		{reflect.TypeFor[ledger.Reservation](), 10}, {reflect.TypeFor[catalog.Subject](), 8}, // Unposted and Ancestors are never kept
		{reflect.TypeFor[ledger.WindowKey](), 3}, {reflect.TypeFor[ledger.Behind](), 2},
	} {
		if n := tt.of.NumField(); n != tt.known {
			t.Errorf("%v has %d fields, Pack was written for %d", tt.of, n, tt.known)
		}
	}
}
