package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// writer is this service's name on its events.
const writer = "control-plane"

// maxSide is how many bytes of JSON an event carries of the state before or
// after; a larger one is named by its hash. A message of the bus has 1 MB.
const maxSide = 128 << 10

// recorded is every event that a change leaves: its facts for the record, and a
// CONFIG event for each bundle it published.
func recorded(by identity.Principal, tenant uuid.UUID, versions map[kind]int64, what told) ([]*busv1.Event, error) {
	var events []*busv1.Event
	for _, f := range what.facts {
		e, err := factEvent(by, f, versions)
		if err != nil {
			return nil, fmt.Errorf("record %s: %w", f.Action, err)
		}
		events = append(events, e)
	}
	for k, version := range versions {
		events = append(events, configEvent(k, version, nil))
	}
	events = append(events, what.config...)
	for _, e := range events {
		e.TenantId, e.Writer, e.Origin, e.Actor = tenant.String(), writer, busv1.Origin_ORIGIN_SYSTEM, by.Actor()
	}
	return events, nil
}

// configEvent tells the data plane that there is something new of a kind.
func configEvent(k kind, version int64, payload *structpb.Struct) *busv1.Event {
	return &busv1.Event{Stream: busv1.Stream_STREAM_CONFIG, Type: string(k), ConfigVersion: version, Payload: payload}
}

func factEvent(by identity.Principal, f change.Fact, versions map[kind]int64) (*busv1.Event, error) {
	payload := &structpb.Struct{Fields: make(map[string]*structpb.Value, 2)}
	for side, state := range map[string]proto.Message{"before": f.Before, "after": f.After} {
		if state == nil {
			continue
		}
		v, err := valueOf(state)
		if err != nil {
			return nil, err
		}
		payload.Fields[side] = v
	}
	return &busv1.Event{
		Stream: busv1.Stream_STREAM_EVENTS, Type: f.Type, Action: f.Action, Resource: f.Resource, Payload: payload,
		PolicyVersion: versions[policies],
		AgentId:       by.AgentID, Team: by.Team, ApiKeyId: by.KeyID, UserId: by.UserID,
	}, nil
}

// valueOf is a state as JSON, or what it weighs and hashes to.
func valueOf(m proto.Message) (*structpb.Value, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxSide {
		exact, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(exact)
		return structpb.NewValue(map[string]any{"sha256": hex.EncodeToString(sum[:]), "bytes": len(exact)})
	}
	s := &structpb.Struct{}
	if err := protojson.Unmarshal(raw, s); err != nil {
		return nil, err
	}
	return structpb.NewStructValue(s), nil
}
