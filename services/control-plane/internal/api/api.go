// Package api speaks gRPC for the control plane: it translates and decides
// nothing. Who may call is decided before it, by package access.
package api

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// keyHeader is how a caller names a request that it may repeat.
const keyHeader = "idempotency-key"

// once reads the caller's idempotency key for a request.
func once(ctx context.Context, method string, req proto.Message) (change.Once, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch keys := md.Get(keyHeader); len(keys) {
	case 0:
		return change.Once{}, nil
	case 1:
		return change.NewOnce(keys[0], method, req)
	default:
		return change.Once{}, fault.Field(keyHeader, "is there %d times", len(keys))
	}
}

// id reads a UUID in the one spelling that ours have.
func id(field, value string) (uuid.UUID, error) {
	u, err := uuid.Parse(value)
	if err != nil || len(value) != 36 {
		return uuid.Nil, fault.Field(field, "must be a UUID")
	}
	return u, nil
}

// optional is nil for "not asked".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
