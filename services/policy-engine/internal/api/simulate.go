package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// simulations bounds how many run at once: few in all, one of each tenant.
type simulations struct {
	slots   chan struct{}
	mu      sync.Mutex // guards running
	running map[uuid.UUID]bool
}

// begin takes a place, or says that there is none.
func (s *simulations) begin(tenant uuid.UUID) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[tenant] {
		return nil, fault.New(fault.Exhausted, "a simulation of this tenant is running already").
			WithReason("SIMULATION_RUNNING").WithRetry(5 * time.Second)
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return nil, fault.New(fault.Exhausted, "as many simulations are running as this instance takes").
			WithReason("SIMULATIONS_FULL").WithRetry(5 * time.Second)
	}
	s.running[tenant] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, tenant)
		<-s.slots
	}, nil
}

// Simulate implements EvaluationService. It uses one core at most, half of the
// time, so that live decisions find one free.
func (s *Server) Simulate(stream grpc.BidiStreamingServer[policyenginev1.SimulateRequest, policyenginev1.SimulateResponse]) error {
	ctx := stream.Context()
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return err
	}
	end, err := s.simulations.begin(tenant)
	if err != nil {
		return err
	}
	defer end()
	before, _, err := s.sets.Set(ctx, tenant, 0)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	after, problems, err := before.With(s.compiler, first.GetChanges())
	switch {
	case err != nil:
		return fmt.Errorf("compile changes: %w", err)
	case problems != nil:
		return broken(first.GetChanges(), problems)
	}
	if err := stream.Send(&policyenginev1.SimulateResponse{PolicySetVersion: before.Version()}); err != nil {
		return err
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		began := time.Now()
		resp := &policyenginev1.SimulateResponse{PolicySetVersion: before.Version()}
		for _, f := range req.GetFacts() {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d, err := policy.Compare(ctx, before, after, f)
			if err != nil {
				return fmt.Errorf("simulate: %w", err)
			}
			resp.Decisions = append(resp.Decisions, d)
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		if err := rest(ctx, time.Since(began)); err != nil {
			return err
		}
	}
}

// rest leaves the core to others for as long as it was used.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(min(d, time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// broken names the policy and the place of what does not compile.
func broken(changes *policyenginev1.SimulateChanges, problems map[string][]policy.Problem) error {
	var wrong []fault.Violation
	for i, p := range changes.GetPolicies() {
		id := p.GetPolicyId()
		if id == "" {
			id = fmt.Sprintf("draft-%d", i+1)
		}
		for _, problem := range problems[id] {
			if problem.Warning {
				continue
			}
			v := fault.Violation{Field: fmt.Sprintf("policies[%d].%s", i, problem.Field), Description: problem.Message}
			if problem.Line > 0 {
				v.Description = fmt.Sprintf("line %d, column %d: %s", problem.Line, problem.Column, problem.Message)
			}
			wrong = append(wrong, v)
		}
	}
	if len(wrong) == 0 {
		return fault.New(fault.Precondition, "the policies in force do not all compile").WithReason("POLICIES_UNUSABLE")
	}
	return fault.Fields(wrong...).WithReason("POLICY_DOES_NOT_COMPILE")
}
