package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var encoder = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// JSON writes m as one indented document with the names of the .proto. Fields
// that are not set have their defaults, so that a program finds every field.
func JSON(w io.Writer, m proto.Message) error {
	raw, err := encoder.Marshal(m)
	if err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil { // protojson varies its spaces on purpose
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// JSONLine writes m on one line.
func JSONLine(w io.Writer, m proto.Message) error {
	raw, err := encoder.Marshal(m)
	if err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// Document writes a value that is no message as one indented document.
func Document(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Word is an enum's value without the prefix that all of them share: "ACTIVE"
// of POLICY_STATUS_ACTIVE. The unspecified one is "".
func Word(e protoreflect.Enum) string {
	if e.Number() == 0 {
		return ""
	}
	v := e.Descriptor().Values().ByNumber(e.Number())
	if v == nil {
		return fmt.Sprint(e.Number())
	}
	return strings.TrimPrefix(string(v.Name()), Prefix(e.Descriptor()))
}

// Prefix is what the names of an enum's values begin with.
func Prefix(d protoreflect.EnumDescriptor) string {
	var b strings.Builder
	for i, r := range string(d.Name()) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String()) + "_"
}
