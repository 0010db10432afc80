package leaf

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func sample() Leaf {
	return Leaf{
		Tenant: uuid.MustParse("0192f000-0000-7000-8000-000000000001"), Index: 7,
		Event: uuid.MustParse("0192f000-0000-7000-8000-000000000002"),
		At:    time.Date(2026, 11, 21, 10, 0, 0, 123456789, time.UTC),
		Type:  "decision_made", Actor: "key:abc", Action: "authorize", Resource: "tool:drop_table", Decision: "DENY",
		PolicyVersion: 3, PayloadHash: PayloadHash([]byte("0123456789abcdef"), []byte(`{"a":1}`)),
	}
}

// Proofs of the past must verify with the code of the future: these bytes may
// never change for version 1.
func TestEncodingIsFrozen(t *testing.T) {
	t.Parallel()

	const want = "01" +
		"0192f00000007000800000000000000" + "1" + "0000000000000007" +
		"0192f00000007000800000000000000" + "2" + "18ea0717c4880d15" +
		"0000000d6465636973696f6e5f6d616465" + "000000076b65793a616263" + "00000009617574686f72697a65" +
		"0000000f746f6f6c3a64726f705f7461626c65" + "0000000444454e59" + "0000000000000003"
	got := hex.EncodeToString(sample().Encode())
	if got[:len(want)] != want {
		t.Errorf("encoding starts\n %s, want\n %s", got[:len(want)], want)
	}
}

func TestDecodeReadsWhatEncodeWrote(t *testing.T) {
	t.Parallel()

	got, err := Decode(sample().Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), got); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecodeAcceptsOnlyTheOneEncoding(f *testing.F) {
	f.Add(sample().Encode())
	f.Add([]byte{Version})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b)
		if err == nil && !bytes.Equal(l.Encode(), b) {
			t.Errorf("%x decodes, but encodes as %x", b, l.Encode())
		}
	})
}
