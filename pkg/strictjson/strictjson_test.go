package strictjson_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/fulcrum-io/fulcrum/pkg/strictjson"
)

func TestJSONThatReadsInTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]struct{ unique, folded bool }{
		`{"a":1,"b":{"a":2}}`:      {true, true},
		`[{"a":1},{"a":2}]`:        {true, true},
		`"text"`:                   {true, true},
		`{"a":1,"A":2}`:            {true, false},
		"{\"s\":1,\"\u017f\":2}":   {true, false}, // to encoding/json, the long s is one
		`{"a":1,"a":1}`:            {false, false},
		`{"a":1,"\u0061":2}`:       {false, false},
		`{"x":[{"y":1,"y":2}]}`:    {false, false},
		`{"a":1} {"a":1}`:          {false, false},
		`{"a":1`:                   {false, false},
		``:                         {false, false},
		"{\"a\":\"\xff\"}":         {false, false},
		strings.Repeat("[", 10000): {false, false},
		strings.Repeat("[", 90) + strings.Repeat("]", 90):   {true, true},
		strings.Repeat("[", 200) + strings.Repeat("]", 200): {false, false},
	} {
		if err := strictjson.Unique([]byte(body)); (err == nil) != want.unique {
			t.Errorf("%.40q: %v", body, err)
		}
		if err := strictjson.UniqueFolded([]byte(body)); (err == nil) != want.folded {
			t.Errorf("%.40q, folded: %v", body, err)
		}
	}
}

// What is taken means the same to a parser that takes the first of two names as
// to one that takes the last.
func FuzzUnique(f *testing.F) {
	for _, body := range []string{`{"a":1,"b":[{"c":null}]}`, `{"a":1,"a":2}`, `[1,[2,{"x":{"x":1}}]]`, `{"ä":"\ud800"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if strictjson.Unique(body) != nil {
			return
		}
		var last any
		if err := json.Unmarshal(body, &last); err != nil {
			t.Fatalf("it is taken and cannot be read: %v", err)
		}
		d := json.NewDecoder(strings.NewReader(string(body)))
		if first, err := readFirst(d); err != nil || !reflect.DeepEqual(first, last) {
			t.Fatalf("read as %v and as %v, %v", first, last, err)
		}
	})
}

// readFirst reads a value in which the first of two names counts.
func readFirst(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		out := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := readFirst(d)
			if err != nil {
				return nil, err
			}
			if _, had := out[name.(string)]; !had {
				out[name.(string)] = v
			}
		}
		_, err := d.Token()
		return out, err
	case json.Delim('['):
		out := []any{}
		for d.More() {
			v, err := readFirst(d)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err := d.Token()
		return out, err
	}
	return t, nil
}
