package demo

import (
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

func newKey() string { return uuid.Must(uuid.NewV7()).String() }

// inline opens an envelope together with its first action.
func inline(workflow string) *governancev1.AuthorizeRequest_Inline {
	return &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{WorkflowId: workflow}}
}

// in names an envelope that is already open.
func in(envelope string) *governancev1.AuthorizeRequest_EnvelopeId {
	return &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: envelope}
}

func tool(name string, args map[string]any) *governancev1.Action {
	a := &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: name}
	if args != nil {
		s, err := structpb.NewStruct(args)
		if err != nil {
			panic(err) // the demo's own literals
		}
		a.Arguments = s
	}
	return a
}

func modelCall(model string) *governancev1.Action {
	return &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_LLM_CALL, Name: "chat", Model: model}
}

// expect turns an answer other than want into an error that shows why.
func expect(resp *governancev1.AuthorizeResponse, want governancev1.Decision) error {
	if resp.GetDecision() == want {
		return nil
	}
	return fmt.Errorf("answer is %s, want %s: %s %v", resp.GetDecision(), want, resp.GetMessage(), resp.GetReasons())
}
