package telemetry

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// NATSCarrier carries a trace in the headers of a NATS message; convert a
// nats.Header to it. Keys are written in lower case: NATS headers are case-
// sensitive, and "traceparent" is what other languages look for.
type NATSCarrier map[string][]string

// Get returns the first value of key, in whatever case it was written.
func (c NATSCarrier) Get(key string) string {
	if v := c[strings.ToLower(key)]; len(v) > 0 {
		return v[0]
	}
	for k, v := range c {
		if strings.EqualFold(k, key) && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// Set replaces the values of key.
func (c NATSCarrier) Set(key, value string) { c[strings.ToLower(key)] = []string{value} }

// Keys lists the keys.
func (c NATSCarrier) Keys() []string { return slices.Collect(maps.Keys(c)) }

// Inject writes the trace that ctx is in into the headers of a message.
func Inject(ctx context.Context, header map[string][]string) {
	Propagator().Inject(ctx, NATSCarrier(header))
}

// Extract returns a context in the trace that the headers name.
func Extract(ctx context.Context, header map[string][]string) context.Context {
	return Propagator().Extract(ctx, NATSCarrier(header))
}
