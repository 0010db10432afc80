package door

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

type codec interface {
	name() string
	marshal(proto.Message) ([]byte, error)
	unmarshal([]byte, proto.Message) error
}

type jsonCodec struct{}

func (jsonCodec) name() string                              { return "json" }
func (jsonCodec) marshal(m proto.Message) ([]byte, error)   { return protojson.Marshal(m) }
func (jsonCodec) unmarshal(b []byte, m proto.Message) error { return protojson.Unmarshal(b, m) }

type protoCodec struct{}

func (protoCodec) name() string                              { return "proto" }
func (protoCodec) marshal(m proto.Message) ([]byte, error)   { return proto.Marshal(m) }
func (protoCodec) unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }

// connectAt calls by the Connect protocol's unary form.
func connectAt(base string, c codec) caller {
	return func(ctx context.Context, key string, m protoreflect.MethodDescriptor, req proto.Message) (Answer, error) {
		body, err := c.marshal(req)
		if err != nil {
			return Answer{}, err
		}
		hr, err := http.NewRequestWithContext(ctx, http.MethodPost, base+Path(m), bytes.NewReader(body))
		if err != nil {
			return Answer{}, err
		}
		hr.Header.Set("Content-Type", "application/"+c.name())
		hr.Header.Set("Connect-Protocol-Version", "1")
		authorize(hr, key)
		resp, err := client.Do(hr)
		if err != nil {
			return Answer{}, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return Answer{}, err
		}
		if resp.StatusCode != http.StatusOK {
			return connectFailed(resp.StatusCode, text)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/"+c.name() {
			return Answer{}, fmt.Errorf("content type %q", got)
		}
		out, err := New(m.Output())
		if err != nil {
			return Answer{}, err
		}
		return Answer{Status: resp.StatusCode, Body: out}, c.unmarshal(text, out)
	}
}

func connectFailed(httpStatus int, text []byte) (Answer, error) {
	var e struct {
		Code    string
		Message string
		Details []struct{ Type, Value string }
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return Answer{}, fmt.Errorf("HTTP %d with %.200q: %w", httpStatus, text, err)
	}
	code, ok := codeNamed(e.Code)
	if !ok {
		return Answer{}, fmt.Errorf("HTTP %d with code %q: %.200q", httpStatus, e.Code, text)
	}
	s := &spb.Status{Code: int32(code), Message: e.Message}
	for _, d := range e.Details {
		value, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil {
			return Answer{}, fmt.Errorf("detail %s: %w", d.Type, err)
		}
		s.Details = append(s.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type, Value: value})
	}
	a := failed(s)
	a.Status = httpStatus
	return a, nil
}
