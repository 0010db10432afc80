package peer

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/simulation"
)

// Simulate implements simulation.Engine.
func (p *Policies) Simulate(ctx context.Context, changes *policyenginev1.SimulateChanges) (simulation.Session, error) {
	stream, err := p.client.Simulate(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{stream: stream}
	first, err := s.ask(&policyenginev1.SimulateRequest{Changes: changes})
	if err != nil {
		return nil, err
	}
	s.version = first.GetPolicySetVersion()
	return s, nil
}

// session is a simulation on one engine. It ends with the context it began with.
type session struct {
	stream  grpc.BidiStreamingClient[policyenginev1.SimulateRequest, policyenginev1.SimulateResponse]
	version int64
}

// SetVersion implements simulation.Session.
func (s *session) SetVersion() int64 { return s.version }

// Judge implements simulation.Session.
func (s *session) Judge(facts []*policyenginev1.Facts) ([]*policyenginev1.SimulatedDecision, error) {
	resp, err := s.ask(&policyenginev1.SimulateRequest{Facts: facts})
	if err != nil {
		return nil, err
	}
	if len(resp.GetDecisions()) != len(facts) {
		return nil, fmt.Errorf("the policy engine answered %d of %d facts", len(resp.GetDecisions()), len(facts))
	}
	return resp.GetDecisions(), nil
}

// ask sends and waits for the answer. When sending fails, the answer says why.
func (s *session) ask(req *policyenginev1.SimulateRequest) (*policyenginev1.SimulateResponse, error) {
	sent := s.stream.Send(req)
	resp, err := s.stream.Recv()
	if err != nil {
		return nil, err
	}
	if sent != nil {
		return nil, errors.Join(errors.New("send to the policy engine"), sent)
	}
	return resp, nil
}
