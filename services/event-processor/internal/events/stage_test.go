package events

import (
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

func TestTheGatewaysWordOnAnEnvelopeIsItsStage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind, field, value string
		origin             busv1.Origin
		want               journal.Stage
	}{
		{"envelope_created", "status", "AUTHORIZED", busv1.Origin_ORIGIN_SYSTEM, journal.Stage{Opened: true}},
		{"envelope_created", "status", "POLICY_VIOLATION", busv1.Origin_ORIGIN_SYSTEM, journal.Stage{Opened: true, Ended: journal.Terminated}},
		{"envelope_status_changed", "to", "RUNNING", busv1.Origin_ORIGIN_SYSTEM, journal.Stage{}},
		{"envelope_status_changed", "to", "COMPLETED", busv1.Origin_ORIGIN_SYSTEM, journal.Stage{Ended: journal.Completed}},
		{"envelope_status_changed", "to", "FAILED", busv1.Origin_ORIGIN_SYSTEM, journal.Stage{Ended: journal.Failed}},
		{"envelope_status_changed", "to", "TIMEOUT", busv1.Origin_ORIGIN_SYSTEM, journal.Stage{Ended: journal.Terminated}},
		{"envelope_status_changed", "to", "COMPLETED", busv1.Origin_ORIGIN_UNSPECIFIED, journal.Stage{}},
		{"execution_completed", "to", "COMPLETED", busv1.Origin_ORIGIN_SYSTEM, journal.Stage{}},
	} {
		e := &busv1.Event{Type: tt.kind, Origin: tt.origin, Payload: &structpb.Struct{Fields: map[string]*structpb.Value{tt.field: structpb.NewStringValue(tt.value)}}}
		if got := stage(e); got != tt.want {
			t.Errorf("%s to %s from %s: %+v, want %+v", tt.kind, tt.value, tt.origin, got, tt.want)
		}
	}
}
