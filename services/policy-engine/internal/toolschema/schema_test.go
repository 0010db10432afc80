package toolschema_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/toolschema"
)

const payment = `{"type":"object","required":["amount"],"additionalProperties":false,
	"properties":{"amount":{"type":"number","maximum":1000},"to":{"$ref":"#/$defs/iban"}},"$defs":{"iban":{"type":"string","pattern":"^[A-Z]{2}"}}}`

func TestArgumentsFitOrAreRefusedWithTheirPlace(t *testing.T) {
	t.Parallel()
	s, err := toolschema.Compile(payment)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args map[string]any
		want string // empty: they fit
	}{
		{"all", map[string]any{"amount": 10.0, "to": "DE12"}, ""},
		{"none at all", nil, "amount"},
		{"null", map[string]any{"amount": nil}, "arguments.amount: got null, want number"},
		{"a boolean", map[string]any{"amount": true}, "got boolean, want number"},
		{"a list", map[string]any{"amount": []any{10.0}}, "got array, want number"},
		{"a text", map[string]any{"amount": "10"}, "got string, want number"},
		{"too much", map[string]any{"amount": 1001.0}, "arguments.amount"},
		{"another field", map[string]any{"amount": 1.0, "secret": 1.0}, "additional"},
		{"a bad text", map[string]any{"amount": 1.0, "to": "hunter2"}, "arguments.to"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args, err := structpb.NewStruct(tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if tt.args == nil {
				args = nil
			}
			err = s.Check(args)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Check: %v, want %q", err, tt.want)
			}
		})
	}
	odd := &structpb.Struct{Fields: map[string]*structpb.Value{"amount": structpb.NewNumberValue(math.NaN())}}
	if err := s.Check(odd); err == nil {
		t.Error("a number that is none fits")
	}
}

func TestSchemasThatCannotBeCheckedByAreRefused(t *testing.T) {
	t.Parallel()
	bomb := `{"$defs":{"a0":{"type":"string"}`
	for i := range 40 {
		bomb += fmt.Sprintf(`,"a%d":{"anyOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]}`, i+1, i, i)
	}
	bomb += `},"$ref":"#/$defs/a40"}`
	for _, tt := range []struct{ name, schema, want string }{
		{"no JSON", `{`, "not JSON"},
		{"no object", `true`, "must be an object"},
		{"an unknown type", `{"type":"strin"}`, "cannot be used"},
		{"a bad pattern", `{"properties":{"a":{"pattern":"("}}}`, "cannot be used"},
		{"another document", `{"$ref":"http://169.254.169.254/latest"}`, "path in the schema itself"},
		{"a file", `{"$ref":"file:///etc/passwd"}`, "path in the schema itself"},
		{"a dialect from elsewhere", `{"$schema":"http://169.254.169.254/x"}`, "cannot be used"},
		{"itself", `{"properties":{"a":{"$ref":"#/properties/a"}}}`, "recursive"},
		{"all of itself", `{"properties":{"a":{"$ref":"#"}}}`, "path in the schema itself"},
		{"an anchor", `{"$dynamicRef":"#x"}`, "not allowed"},
		{"doubling references", bomb, "parts"},
		{"deep", strings.Repeat(`{"not":`, 100) + `{}` + strings.Repeat(`}`, 100), "deeper"},
		{"large", `{"description":"` + strings.Repeat("a", 64<<10) + `"}`, "bytes"},
		{"nowhere", `{"$ref":"#/$defs/none"}`, "leads nowhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := toolschema.Compile(tt.schema)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Compile: %v, want %q", err, tt.want)
			}
		})
	}
}

// Checking ends soon, whatever the schema and the arguments are.
func TestLargeArgumentsAreRefusedRatherThanCheckedForLong(t *testing.T) {
	t.Parallel()
	s, err := toolschema.Compile(`{"properties":{"xs":{"uniqueItems":true,"items":{"anyOf":[` + strings.TrimSuffix(strings.Repeat(`{"pattern":"(a+)+b"},`, 300), ",") + `]}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	items := make([]any, 100_000)
	for i := range items {
		items[i] = "aaaaaaaa"
	}
	args, err := structpb.NewStruct(map[string]any{"xs": items})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Check(args); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("Check: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// Whatever bytes are registered as a schema, compiling them ends and does not
// panic, and what compiles checks arguments.
func FuzzCompile(f *testing.F) {
	f.Add(payment, "amount", 1.0)
	f.Add(`{"type":["object"],"minProperties":1}`, "x", 2.0)
	f.Fuzz(func(t *testing.T, schema, key string, n float64) {
		s, err := toolschema.Compile(schema)
		if err != nil {
			return
		}
		_ = s.Check(&structpb.Struct{Fields: map[string]*structpb.Value{key: structpb.NewNumberValue(n), "l": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue(key)}})}})
	})
}
