package web

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
)

// strict reads JSON in exactly one way: one document, no duplicate keys, no
// unknown fields, nothing after it. What two parsers could read differently
// must not get past this one. snake_case and camelCase are both our names.
var strict = protojson.UnmarshalOptions{RecursionLimit: 100}

// marshaler reads strictly and writes the names that REST clients expect.
type marshaler struct{ runtime.JSONPb }

func newMarshaler() *marshaler {
	return &marshaler{runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
		UnmarshalOptions: strict,
	}}
}

// NewDecoder implements runtime.Marshaler.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(body)) == 0 {
			return io.EOF // an empty body is an empty message
		}
		return m.Unmarshal(body, v)
	})
}

// Unmarshal implements runtime.Marshaler.
func (m *marshaler) Unmarshal(body []byte, v any) error {
	if msg, ok := v.(proto.Message); ok {
		if _, ok := msg.(*envelopev1.UpdateEnvelopeStatusRequest); ok {
			body = longStatus(body)
		}
		return strict.Unmarshal(body, msg)
	}
	// The body is one field of the request: a pointer to the field.
	field := reflect.ValueOf(v)
	if field.Kind() == reflect.Pointer && field.Elem().Kind() == reflect.Pointer {
		if field.Elem().IsNil() {
			field.Elem().Set(reflect.New(field.Elem().Type().Elem()))
		}
		if msg, ok := field.Elem().Interface().(proto.Message); ok {
			return strict.Unmarshal(body, msg)
		}
	}
	return errors.New("a body of this kind is not supported")
}

var shortStatus = regexp.MustCompile(`("status"\s*:\s*")([A-Z][A-Z_]*")`)

// longStatus gives a status its prefix where a client has left it out. The body
// is parsed strictly afterwards.
func longStatus(body []byte) []byte {
	return shortStatus.ReplaceAllFunc(body, func(match []byte) []byte {
		parts := shortStatus.FindSubmatch(match)
		if bytes.HasPrefix(parts[2], []byte("ENVELOPE_STATUS_")) {
			return match
		}
		return append(append(append([]byte{}, parts[1]...), "ENVELOPE_STATUS_"...), parts[2]...)
	})
}

var (
	jsonNoise  = regexp.MustCompile(`^proto:[\s\x{a0}]*`)
	jsonPlace  = regexp.MustCompile(`^\((line \d+:\d+)\):\s*`)
	jsonField  = regexp.MustCompile(`(?:unknown|duplicate) field "([^"]*)"|duplicate map key "([^"]*)"`)
	jsonValue  = regexp.MustCompile(`invalid value for \S+ field ([A-Za-z0-9_]+):`)
	queryParam = regexp.MustCompile(`^(?:type mismatch, parameter: |missing parameter:? |failed to find field in path: |too many values for field |parsing field )"?([A-Za-z0-9_.]+)"?`)
)

// unreadable makes a fault of a parser's complaint: where, which field, what.
func unreadable(text string) error {
	text = jsonNoise.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "\u00a0", " ")
	place := ""
	if m := jsonPlace.FindStringSubmatch(text); m != nil {
		place, text = " at "+m[1], text[len(m[0]):]
	}
	field := "body"
	if m := queryParam.FindStringSubmatch(text); m != nil {
		field = m[1]
	} else if m := jsonValue.FindStringSubmatch(text); m != nil {
		field = snakeName(m[1])
	} else if m := jsonField.FindStringSubmatch(text); m != nil {
		for _, name := range m[1:] {
			if name != "" {
				field = name
			}
		}
	}
	if len(text) > 512 {
		text = text[:512] + "..."
	}
	return fault.Field(field, "%s%s", strings.ToValidUTF8(text, "?"), place).WithReason("REQUEST_MALFORMED")
}

// snakeName is a field's name in the .proto, of its name in JSON.
func snakeName(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}
