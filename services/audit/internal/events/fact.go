// Package events brings what travels on the bus into the log.
package events

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"
	"google.golang.org/protobuf/encoding/protojson"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/leaf"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

// fact turns an event into what the log states. The payload is the whole event
// as canonical JSON (RFC 8785), so that a person can read what was hashed.
func fact(e *busv1.Event) (tenant uuid.UUID, f trail.Fact, err error) {
	if tenant, err = uuid.Parse(e.GetTenantId()); err != nil {
		return tenant, f, fmt.Errorf("tenant_id: %w", err)
	}
	id, err := uuid.Parse(e.GetEventId())
	if err != nil {
		return tenant, f, fmt.Errorf("event_id: %w", err)
	}
	if err := e.GetOccurredAt().CheckValid(); err != nil {
		return tenant, f, fmt.Errorf("occurred_at: %w", err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
	if err != nil {
		return tenant, f, fmt.Errorf("encode payload: %w", err)
	}
	payload, err := jcs.Transform(text)
	if err != nil {
		return tenant, f, fmt.Errorf("canonical payload: %w", err)
	}
	actor := e.GetActor()
	if e.GetOrigin() == busv1.Origin_ORIGIN_CALLER {
		actor = "caller/" + actor // what callers publish is never mistaken for ours
	}
	return tenant, trail.Fact{
		Leaf: leaf.Leaf{
			Event: id, At: e.GetOccurredAt().AsTime(), Type: e.GetType(), Actor: actor, Action: e.GetAction(),
			Resource: e.GetResource(), Decision: e.GetDecision(), PolicyVersion: e.GetPolicyVersion(),
		},
		Payload: payload,
	}, nil
}
