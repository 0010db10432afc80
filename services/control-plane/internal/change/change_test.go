package change_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

func TestAKeyIsBoundToMethodAndBody(t *testing.T) {
	t.Parallel()
	body, other := structpb.NewStringValue("a"), structpb.NewStringValue("b")
	hash := func(method string, m *structpb.Value) []byte {
		o, err := change.NewOnce("k", method, m)
		if err != nil {
			t.Fatal(err)
		}
		return o.Hash
	}
	if !bytes.Equal(hash("m", body), hash("m", body)) {
		t.Error("the same request hashes differently")
	}
	if bytes.Equal(hash("m", body), hash("m", other)) || bytes.Equal(hash("m", body), hash("n", body)) {
		t.Error("different requests hash alike")
	}
	if o, err := change.NewOnce("", "m", body); err != nil || o.Key != "" || o.Hash != nil {
		t.Errorf("no key: %v %v", o, err)
	}
	for _, key := range []string{" ", "a b", "ü", "a\n", strings.Repeat("x", change.MaxKey+1)} {
		if _, err := change.NewOnce(key, "m", body); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestEtagsReadBack(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{1, 35, 36, 1 << 40} {
		if got := change.Revision(change.Etag(n)); got != n {
			t.Errorf("%d reads back as %d", n, got)
		}
	}
	for _, etag := range []string{"", "r", "x1", "r-1", "r!", "1"} {
		if got := change.Revision(etag); got != 0 {
			t.Errorf("%q is revision %d", etag, got)
		}
	}
}
