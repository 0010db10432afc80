package approval_test

import (
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
)

func subject(t *testing.T) approval.Subject {
	t.Helper()
	args, err := structpb.NewStruct(map[string]any{"to": "ada", "n": 1.5, "list": []any{"a", true, nil}, "deep": map[string]any{"x": "y"}})
	if err != nil {
		t.Fatal(err)
	}
	return approval.Subject{
		Tenant: uuid.New(), KeyID: "k", AgentID: "a", UserID: "u", Envelope: uuid.New(), PolicySetVersion: 7,
		Action: &governancev1.Action{
			Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "send", Arguments: args, Model: "m", Resource: "r", InputText: "i",
		},
	}
}

func digest(t *testing.T, s approval.Subject) [32]byte {
	t.Helper()
	sum, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// The same action has the same digest however often it is written down.
func TestTheSameActionHasTheSameDigest(t *testing.T) {
	t.Parallel()
	s := subject(t)
	want := digest(t, s)
	for range 50 {
		copied := s
		copied.Action = proto.CloneOf(s.Action)
		if digest(t, copied) != want {
			t.Fatal("the digest changed")
		}
	}
}

// Changing anything about an action changes its digest.
func TestEverythingAboutAnActionIsInItsDigest(t *testing.T) {
	t.Parallel()
	s := subject(t)
	seen := map[[32]byte]string{digest(t, s): "the original"}
	for name, change := range map[string]func(*approval.Subject){
		"tenant":   func(s *approval.Subject) { s.Tenant = uuid.New() },
		"key":      func(s *approval.Subject) { s.KeyID = "K" },
		"agent":    func(s *approval.Subject) { s.AgentID = "" },
		"user":     func(s *approval.Subject) { s.UserID = "v" },
		"envelope": func(s *approval.Subject) { s.Envelope = uuid.Nil },
		"version":  func(s *approval.Subject) { s.PolicySetVersion++ },
		"kind":     func(s *approval.Subject) { s.Action.Kind = governancev1.ActionKind_ACTION_KIND_OTHER },
		"name":     func(s *approval.Subject) { s.Action.Name = "sent" },
		"model":    func(s *approval.Subject) { s.Action.Model = "" },
		"resource": func(s *approval.Subject) { s.Action.Resource = "R" },
		"input":    func(s *approval.Subject) { s.Action.InputText = "I" },
		"argument": func(s *approval.Subject) { s.Action.Arguments.Fields["to"] = structpb.NewStringValue("eve") },
		"deep argument": func(s *approval.Subject) {
			s.Action.Arguments.Fields["deep"].GetStructValue().Fields["x"] = structpb.NewNullValue()
		},
		"no arguments": func(s *approval.Subject) { s.Action.Arguments = nil },
	} {
		changed := s
		changed.Action = proto.CloneOf(s.Action)
		change(&changed)
		sum := digest(t, changed)
		if other, ok := seen[sum]; ok {
			t.Errorf("another %s looks like %s", name, other)
		}
		seen[sum] = name
	}
}

func TestWhoIsEligible(t *testing.T) {
	t.Parallel()
	by := approval.Requester{KeyID: "k1", AgentID: "a1", UserID: "u1"}
	for name, test := range map[string]struct {
		who   identity.Principal
		roles []string
		ok    bool
	}{
		"a stranger":            {identity.Principal{KeyID: "k2"}, nil, true},
		"the same key":          {identity.Principal{KeyID: "k1"}, nil, false},
		"the same agent":        {identity.Principal{KeyID: "k2", AgentID: "a1"}, nil, false},
		"the same user":         {identity.Principal{KeyID: "k2", UserID: "u1"}, nil, false},
		"without the role":      {identity.Principal{KeyID: "k2", Roles: []string{"viewer"}}, []string{"approver"}, false},
		"with one of the roles": {identity.Principal{KeyID: "k2", Roles: []string{"viewer", "approver"}}, []string{"admin", "approver"}, true},
	} {
		if err := approval.Eligible(test.who, by, test.roles); (err == nil) != test.ok || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// States survive the wire, and nothing follows a final one.
func TestStates(t *testing.T) {
	t.Parallel()
	for state, final := range map[approval.State]bool{
		approval.Pending: false, approval.Approved: false, approval.Rejected: true, approval.Expired: true, approval.Cancelled: true, approval.Consumed: true,
	} {
		if state.Final() != final || state.Proto() == governancev1.ApprovalState_APPROVAL_STATE_UNSPECIFIED {
			t.Errorf("%s: final %v, %v on the wire", state, state.Final(), state.Proto())
		}
	}
}
