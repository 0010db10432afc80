package bench

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

const benchTool = "web_search"

// authorizer is an agent that asks for one allowed tool call after another in
// one envelope.
type authorizer struct {
	conn     *grpc.ClientConn
	client   governancev1.GovernanceServiceClient
	key      string
	envelope string
	held     bool // every answer must come with a hold
}

func newAuthorizer(ctx context.Context, addr, key string, held bool) (*authorizer, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	a := &authorizer{conn: conn, client: governancev1.NewGovernanceServiceClient(conn), key: key, held: held}
	resp, err := a.ask(ctx, &governancev1.AuthorizeRequest{Envelope: &governancev1.AuthorizeRequest_Inline{
		Inline: &governancev1.InlineEnvelope{WorkflowId: "bench"}}})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("first call: %w", err)
	}
	a.envelope = resp.GetEnvelopeId()
	return a, nil
}

func (a *authorizer) do(ctx context.Context) error {
	_, err := a.ask(ctx, &governancev1.AuthorizeRequest{Envelope: &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: a.envelope}})
	return err
}

func (a *authorizer) ask(ctx context.Context, req *governancev1.AuthorizeRequest) (*governancev1.AuthorizeResponse, error) {
	req.Action = &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: benchTool}
	req.IdempotencyKey = uuid.Must(uuid.NewV7()).String()
	if a.held {
		req.Estimate = &governancev1.Estimate{CostUsd: 0.000001}
	}
	resp, err := a.client.Authorize(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+a.key), req)
	if err != nil {
		return nil, err
	}
	if resp.GetDecision() != governancev1.Decision_DECISION_ALLOW || (resp.GetHold() != nil) != a.held {
		return nil, fmt.Errorf("answer is %s, hold %v: %s", resp.GetDecision(), resp.GetHold(), resp.GetMessage())
	}
	return resp, nil
}

func (a *authorizer) close() { _ = a.conn.Close() }
