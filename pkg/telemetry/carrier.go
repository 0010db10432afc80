package telemetry

import (
	"context"

	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// incoming reads a trace from the metadata of a call that came in.
type incoming struct{ ctx context.Context }

// Get returns the first value of key.
func (i incoming) Get(key string) string {
	if v := metadata.ValueFromIncomingContext(i.ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set is for the other direction.
func (incoming) Set(string, string) {}

// Keys lists the keys.
func (i incoming) Keys() []string {
	md, _ := metadata.FromIncomingContext(i.ctx)
	keys := make([]string, 0, len(md))
	for key := range md {
		keys = append(keys, key)
	}
	return keys
}

// outgoing gathers what is added to the metadata of a call: keys and values in turn.
type outgoing []string

// Get is for the other direction.
func (outgoing) Get(string) string { return "" }

// Set adds a key.
func (o *outgoing) Set(key, value string) { *o = append(*o, key, value) }

// Keys is for the other direction.
func (outgoing) Keys() []string { return nil }

// codeName is a code as the conventions write it.
func codeName(code grpccodes.Code) string {
	if code == grpccodes.Canceled {
		return "CANCELLED" // which Go spells otherwise
	}
	if name, ok := codeNames[code]; ok {
		return name
	}
	return code.String()
}

var codeNames = map[grpccodes.Code]string{
	grpccodes.OK: "OK", grpccodes.Unknown: "UNKNOWN", grpccodes.InvalidArgument: "INVALID_ARGUMENT",
	grpccodes.DeadlineExceeded: "DEADLINE_EXCEEDED", grpccodes.NotFound: "NOT_FOUND", grpccodes.AlreadyExists: "ALREADY_EXISTS",
	grpccodes.PermissionDenied: "PERMISSION_DENIED", grpccodes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	grpccodes.FailedPrecondition: "FAILED_PRECONDITION", grpccodes.Aborted: "ABORTED", grpccodes.OutOfRange: "OUT_OF_RANGE",
	grpccodes.Unimplemented: "UNIMPLEMENTED", grpccodes.Internal: "INTERNAL", grpccodes.Unavailable: "UNAVAILABLE",
	grpccodes.DataLoss: "DATA_LOSS", grpccodes.Unauthenticated: "UNAUTHENTICATED",
}
