// Package toolschema checks the arguments of a tool against its JSON Schema, in
// bounded time: both the schema and the arguments come from outside.
package toolschema

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"google.golang.org/protobuf/types/known/structpb"
)

// Limits of a schema, and of the work of one check.
const (
	maxBytes = 64 << 10
	maxDepth = 64
	// maxWeight bounds the parts of a schema, each counted as often as it is
	// referred to: what one value may be held against.
	maxWeight = 5_000
	// maxWork bounds weight times values of the arguments, about 50 ms.
	maxWork = 1_000_000
	maxText = 300 // bytes of a message
)

// Schema is a compiled schema. Safe for concurrent use.
type Schema struct {
	compiled *jsonschema.Schema
	weight   int
	unique   bool // compares all elements of a list with each other
}

// Compile reads a JSON Schema, of draft 2020-12 unless it says otherwise. It
// refuses references to other documents and to itself, and what is too large to
// check arguments by.
func Compile(text string) (*Schema, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("the schema has %d bytes, at most %d are allowed", len(text), maxBytes)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the schema is not JSON: %s", clip(err.Error()))
	}
	if _, ok := doc.(map[string]any); !ok {
		return nil, errors.New("the schema must be an object")
	}
	w := &weigher{root: doc, known: map[string]int{}}
	weight, err := w.weigh(doc, 0)
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nowhere{})
	if err := c.AddResource(location, doc); err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %s", clip(err.Error()))
	}
	compiled, err := c.Compile(location)
	if err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %s", reason(err))
	}
	return &Schema{compiled: compiled, weight: weight, unique: w.unique}, nil
}

const location = "fulcrum:tool"

// nowhere loads nothing: a schema that names another document does not compile.
type nowhere struct{}

func (nowhere) Load(string) (any, error) {
	return nil, errors.New("references to other documents are not followed")
}

func reason(err error) string {
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		err = invalid.Err
	}
	var v *jsonschema.ValidationError
	if errors.As(err, &v) {
		return at(first(v))
	}
	return clip(err.Error())
}

// Nothing is the schema that no arguments fit.
func Nothing() *Schema { return &Schema{} }

// Check returns nil if the arguments fit. What it returns names places and
// types, and no value of the arguments. Absent arguments are an empty object.
func (s *Schema) Check(args *structpb.Struct) error {
	if s.compiled == nil {
		return errors.New("its schema cannot be used")
	}
	m := &measure{}
	values := m.object(args)
	if work := m.count * s.weight; work > maxWork || s.unique && m.longest > 1000 {
		return fmt.Errorf("the arguments are too large to be checked against the schema: %d values", m.count)
	}
	err := s.compiled.Validate(values)
	var v *jsonschema.ValidationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &v):
		return errors.New(at(first(v)))
	}
	return errors.New("the arguments cannot be checked against the schema")
}

// first is the innermost first cause.
func first(v *jsonschema.ValidationError) *jsonschema.ValidationError {
	for len(v.Causes) > 0 {
		v = v.Causes[0]
	}
	return v
}

var printer = message.NewPrinter(language.English)

func at(v *jsonschema.ValidationError) string {
	place := "arguments"
	for _, part := range v.InstanceLocation {
		place += "." + part
	}
	return clip(place + ": " + v.ErrorKind.LocalizedString(printer))
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// weigher counts the parts of a schema.
type weigher struct {
	root   any
	known  map[string]int // by reference; -1 while it is being counted
	unique bool
}

func (w *weigher) weigh(v any, depth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("the schema nests deeper than %d", maxDepth)
	}
	sum := 1
	add := func(n int, err error) error {
		if sum += n; err == nil && sum > maxWeight {
			err = fmt.Errorf("the schema has more than %d parts, counted as often as they are referred to", maxWeight)
		}
		return err
	}
	switch v := v.(type) {
	case map[string]any:
		if v["uniqueItems"] == true {
			w.unique = true
		}
		for _, key := range slices.Sorted(maps.Keys(v)) { // the same schema gets the same answer
			e := v[key]
			if ref, ok := e.(string); ok && key == "$ref" {
				if err := add(w.reference(ref, depth)); err != nil {
					return 0, err
				}
				continue
			}
			if slices.Contains([]string{"$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$id"}, key) {
				if _, ok := e.(string); ok {
					return 0, fmt.Errorf("%s is not allowed: a reference is $ref with a path, such as #/$defs/address", key)
				}
			}
			if err := add(w.weigh(e, depth+1)); err != nil {
				return 0, err
			}
		}
	case []any:
		for _, e := range v {
			if err := add(w.weigh(e, depth+1)); err != nil {
				return 0, err
			}
		}
	}
	return sum, nil
}

// reference weighs what a JSON pointer into the schema leads to.
func (w *weigher) reference(ref string, depth int) (int, error) {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return 0, fmt.Errorf("$ref %.64q must be a path in the schema itself, such as #/$defs/address", ref)
	}
	if n, ok := w.known[ref]; ok {
		if n < 0 {
			return 0, fmt.Errorf("$ref %.64q leads back to itself: recursive schemas are not allowed", ref)
		}
		return n, nil
	}
	at := w.root
	for part := range strings.SplitSeq(pointer, "/") {
		if plain, err := url.PathUnescape(part); err == nil {
			part = plain
		}
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		o, ok := at.(map[string]any)
		if !ok {
			return 0, fmt.Errorf("$ref %.64q leads nowhere", ref)
		}
		if at, ok = o[part]; !ok {
			return 0, fmt.Errorf("$ref %.64q leads nowhere", ref)
		}
	}
	w.known[ref] = -1
	n, err := w.weigh(at, depth+1)
	w.known[ref] = n
	return n, err
}

// measure counts the values of arguments while it converts them; long texts
// count as many.
type measure struct{ count, longest int }

func (m *measure) object(s *structpb.Struct) map[string]any {
	out := make(map[string]any, len(s.GetFields()))
	for key, v := range s.GetFields() {
		out[key] = m.value(v)
	}
	return out
}

func (m *measure) value(v *structpb.Value) any {
	m.count++
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		m.count += len(k.StringValue) / 64
		return k.StringValue
	case *structpb.Value_NumberValue:
		return k.NumberValue
	case *structpb.Value_BoolValue:
		return k.BoolValue
	case *structpb.Value_StructValue:
		return m.object(k.StructValue)
	case *structpb.Value_ListValue:
		list := k.ListValue.GetValues()
		m.longest = max(m.longest, len(list))
		out := make([]any, len(list))
		for i, e := range list {
			out[i] = m.value(e)
		}
		return out
	}
	return nil
}
