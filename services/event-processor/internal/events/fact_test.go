package events

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

func valid() *busv1.Event {
	return &busv1.Event{
		EventId: uuid.Must(uuid.NewV7()).String(), TenantId: uuid.NewString(), Type: "decision_made", Origin: busv1.Origin_ORIGIN_SYSTEM,
		OccurredAt: timestamppb.Now(), ExecutionId: "run", Decision: "DENY", Latency: &busv1.LatencyFact{TotalUs: 1500},
		Cost: &busv1.CostFact{CostNano: 7, InputTokens: 1}, Labels: map[string]string{"a": "b"},
	}
}

func TestWhatCannotBeStoredSaysWhy(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*busv1.Event){
		"tenant_id":       func(e *busv1.Event) { e.TenantId = "acme" },
		"event_id":        func(e *busv1.Event) { e.EventId = uuid.Nil.String() },
		"occurred_at":     func(e *busv1.Event) { e.OccurredAt = nil },
		"occurred_at: ":   func(e *busv1.Event) { e.OccurredAt = &timestamppb.Timestamp{Seconds: math.MaxInt64} },
		"no type":         func(e *busv1.Event) { e.Type = "" },
		"execution_id ha": func(e *busv1.Event) { e.ExecutionId = strings.Repeat("x", maxWord+1) },
		"payload": func(e *busv1.Event) {
			e.Payload = &structpb.Struct{Fields: map[string]*structpb.Value{"x": structpb.NewNumberValue(math.NaN())}}
		},
	} {
		e := valid()
		spoil(e)
		if _, err := fact(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %v", want, err)
		}
	}
}

func TestAnEventBecomesAFact(t *testing.T) {
	t.Parallel()
	e := valid()
	f, err := fact(e)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Denied() || f.Timed().Total != 1500*time.Microsecond || f.Charged().Nano != 7 || f.Key() != "run" || f.Labels != `{"a":"b"}` || f.Payload != "{}" {
		t.Errorf("%+v", f)
	}
	e.Origin = busv1.Origin_ORIGIN_CALLER
	if f, err = fact(e); err != nil || f.Denied() || f.Timed() != nil || f.Charged() != nil {
		t.Errorf("from a caller: %+v, %v", f, err)
	}
}

func TestEndsAndFailuresAreKnown(t *testing.T) {
	t.Parallel()
	object := func(key, value string) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{key: structpb.NewStringValue(value)}}
	}
	for _, tt := range []struct {
		kind          string
		origin        busv1.Origin
		payload       *structpb.Struct
		final, failed bool
	}{
		{"execution_completed", 2, nil, true, false},
		{"execution_failed", 2, nil, true, true},
		{"envelope_moved", 1, object("to", "TIMEOUT"), true, false},
		{"envelope_created", 1, object("status", "AUTHORIZED"), false, false},
		{"envelope_moved", 2, object("to", "TIMEOUT"), false, false}, // anybody may say so
		{"action_settled", 1, object("outcome", "OUTCOME_FAILURE"), false, true},
		{"action_settled", 1, object("outcome", "OUTCOME_SUCCESS"), false, false},
		{"tool_call_failed", 2, nil, false, true},
		{"llm_call", 2, nil, false, false},
	} {
		e := valid()
		e.Type, e.Origin, e.Payload = tt.kind, tt.origin, tt.payload
		f, err := fact(e)
		if err != nil || f.Final != tt.final || f.Failed != tt.failed {
			t.Errorf("%s %v: final %t, failed %t, %v", tt.kind, tt.payload, f.Final, f.Failed, err)
		}
	}
}

func FuzzFact(f *testing.F) {
	seed := valid()
	seed.Payload = &structpb.Struct{Fields: map[string]*structpb.Value{"\x00": structpb.NewStringValue("\\u0000\x00\\\x00")}}
	data, err := proto.Marshal(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		e := &busv1.Event{}
		if proto.Unmarshal(data, e) != nil {
			return
		}
		got, err := fact(e)
		if err != nil {
			return
		}
		for _, text := range []string{got.Payload, got.Labels} {
			if !json.Valid([]byte(text)) || text[0] != '{' {
				t.Errorf("not a JSON object: %q", text)
			}
			var v any
			if err := json.Unmarshal([]byte(text), &v); err == nil && holdsZero(v) {
				t.Errorf("PostgreSQL refuses %q", text)
			}
		}
		for _, text := range []string{got.Type, got.ExecutionID, got.Actor, got.Key()} {
			if strings.Contains(text, "\x00") {
				t.Errorf("PostgreSQL refuses %q", text)
			}
		}
	})
}

func holdsZero(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "\x00")
	case []any:
		for _, e := range v {
			if holdsZero(e) {
				return true
			}
		}
	case map[string]any:
		for k, e := range v {
			if holdsZero(k) || holdsZero(e) {
				return true
			}
		}
	}
	return false
}
