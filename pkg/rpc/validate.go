package rpc

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Validate checks a message against the rules in its .proto. What is wrong is
// one fault.Invalid that names every field. NewServer validates requests; doors
// that run no gRPC interceptors call this themselves.
func Validate(msg any) error {
	m, ok := msg.(proto.Message)
	if !ok {
		return nil
	}
	err := protovalidate.Validate(m)
	if err == nil {
		return nil
	}
	wrong, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return fmt.Errorf("validate %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	violations := make([]fault.Violation, 0, len(wrong.Violations))
	for _, v := range wrong.Violations {
		text := v.Proto.GetMessage()
		if text == "" {
			text = "does not satisfy " + v.Proto.GetRuleId()
		}
		violations = append(violations, fault.Violation{
			Field:       protovalidate.FieldPathString(v.Proto.GetField()),
			Description: text,
		})
	}
	return fault.Fields(violations...).WithReason("VALIDATION_FAILED")
}
