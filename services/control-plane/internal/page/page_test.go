package page_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
)

type position struct {
	N  int       `json:"n"`
	ID uuid.UUID `json:"i"`
}

func TestATokenReadsBackInItsOwnList(t *testing.T) {
	t.Parallel()
	list := page.List{Tenant: uuid.New(), Kind: "things", Filter: []string{"a", ""}}
	want := position{-3, uuid.New()}
	token, err := page.Token(list, want)
	if err != nil {
		t.Fatal(err)
	}
	var got position
	if more, err := page.Read(list, token, &got); !more || err != nil || got != want {
		t.Errorf("read %v %v %v, want %v", got, more, err, want)
	}
	if more, err := page.Read(list, "", &got); more || err != nil {
		t.Errorf("first page: %v %v", more, err)
	}
	for name, other := range map[string]page.List{
		"tenant":           {Tenant: uuid.New(), Kind: list.Kind, Filter: list.Filter},
		"kind":             {Tenant: list.Tenant, Kind: "others", Filter: list.Filter},
		"filter":           {Tenant: list.Tenant, Kind: list.Kind, Filter: []string{"", "a"}},
		"filter, run on":   {Tenant: list.Tenant, Kind: list.Kind, Filter: []string{`a" "`}},
		"filter, one less": {Tenant: list.Tenant, Kind: list.Kind, Filter: []string{"a"}},
	} {
		if _, err := page.Read(other, token, &got); !errors.Is(err, fault.Invalid) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for asked, want := range map[int32]int{0: page.Default, 1: 1, page.Max: page.Max, -1: 0, page.Max + 1: 0} {
		got, err := page.Size(asked)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("Size(%d) = %d, %v; want %d", asked, got, err, want)
		}
	}
}

func TestCutLeavesATokenOnlyWhenThereIsMore(t *testing.T) {
	t.Parallel()
	for entries, want := range map[int]bool{0: false, 2: false, 3: true} {
		got, token, err := page.Cut(page.List{}, make([]int, entries), 2, func(n int) any { return n })
		if err != nil || (token != "") != want || len(got) != min(entries, 2) {
			t.Errorf("%d entries: %v %q %v", entries, got, token, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	list := page.List{Tenant: uuid.Nil, Kind: "things"}
	token, err := page.Token(list, position{1, uuid.Nil})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("AAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, token string) {
		var p *position
		more, err := page.Read(list, token, &p)
		if err != nil && !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", token, err)
		}
		if more != (token != "" && err == nil) {
			t.Errorf("%q: more %v with %v", token, more, err)
		}
	})
}
