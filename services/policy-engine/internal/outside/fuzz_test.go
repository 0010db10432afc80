package outside

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// says is a connection to a server that says always the same.
type says string

func (s says) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(s)))}, nil
}

// Whatever a model answers, the question is open or the answer is one that the
// text says in one way only.
func FuzzModelsAnswer(f *testing.F) {
	for _, content := range []string{
		`{"match":true,"confidence":0.9}`, `{"match":false,"confidence":1e0}`, `{"match":true,"confidence":0.9,"match":false}`,
		`{"Match":true,"match":false,"confidence":1}`, `{"match":true,"confidence":1e400}`, `{"match":"true","confidence":1}`, `[]`, `null`, `{"match":null,"confidence":1}`,
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		wire, err := json.Marshal(map[string]any{"choices": []any{map[string]any{"message": map[string]string{"content": content}}}})
		if err != nil {
			t.Fatal(err)
		}
		a := New(Config{ModelURL: "http://model/v1", ModelKey: secret.New("k"), Model: "m", ModelTimeout: time.Minute}, slog.New(slog.DiscardHandler))
		a.model = &http.Client{Transport: says(wire)}
		q := semantic("text")
		yes, answered := a.Ask(t.Context(), uuid.New(), []policy.Asked{q})[q.Key()]
		if !answered {
			return
		}
		var first, last map[string]any // by their names as they are written
		if err := json.Unmarshal([]byte(content), &last); err != nil {
			t.Fatalf("%q is no JSON object, and was an answer", content)
		}
		first = firstOf(t, content)
		for name, object := range map[string]map[string]any{"the first": first, "the last": last} {
			match, confidence := folded(object, "match"), folded(object, "confidence")
			c, _ := confidence.(float64)
			if m, ok := match.(bool); !ok || c < 0 || c > 1 || yes != (m && c >= q.Threshold) {
				t.Errorf("%q was answered with %v; who takes %s of two names reads %v, %v", content, yes, name, match, confidence)
			}
		}
	})
}

// firstOf reads an object in which the first of two names counts.
func firstOf(t *testing.T, text string) map[string]any {
	d := json.NewDecoder(strings.NewReader(text))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if key, _ := name.(string); out[key] == nil {
			out[key] = v
		}
	}
	return out
}

// folded is the value of a name however it is written.
func folded(object map[string]any, name string) any {
	for k, v := range object {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}
