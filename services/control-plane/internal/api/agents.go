package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/agent"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
)

// Agents is the part of AgentService that keeps the register.
type Agents struct {
	agentv1.UnimplementedAgentServiceServer
	service *agent.Service
}

// NewAgents returns Agents over s.
func NewAgents(s *agent.Service) *Agents { return &Agents{service: s} }

// CreateAgent implements agentv1.AgentServiceServer.
func (s *Agents) CreateAgent(ctx context.Context, req *agentv1.CreateAgentRequest) (*agentv1.CreateAgentResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, agentv1.AgentService_CreateAgent_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	a, err := s.service.Create(ctx, by, &agentv1.Agent{
		Name: req.GetName(), Description: req.GetDescription(), Model: req.GetModel(),
		Environment: req.GetEnvironment(), Team: req.GetTeam(), Config: req.GetConfig(),
	}, key)
	if err != nil {
		return nil, err
	}
	return &agentv1.CreateAgentResponse{Agent: a}, nil
}

// GetAgent implements agentv1.AgentServiceServer.
func (s *Agents) GetAgent(ctx context.Context, req *agentv1.GetAgentRequest) (*agentv1.GetAgentResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("id", req.GetId())
	if err != nil {
		return nil, err
	}
	a, err := s.service.Agent(ctx, by.Tenant, u)
	if err != nil {
		return nil, err
	}
	return &agentv1.GetAgentResponse{Agent: a}, nil
}

// UpdateAgent implements agentv1.AgentServiceServer.
func (s *Agents) UpdateAgent(ctx context.Context, req *agentv1.UpdateAgentRequest) (*agentv1.UpdateAgentResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("id", req.GetId())
	if err != nil {
		return nil, err
	}
	a, err := s.service.Update(ctx, by, u, &agentv1.Agent{
		Name: req.GetName(), Description: req.GetDescription(), Status: req.GetStatus(), Config: req.GetConfig(),
	})
	if err != nil {
		return nil, err
	}
	return &agentv1.UpdateAgentResponse{Agent: a}, nil
}

// DeleteAgent implements agentv1.AgentServiceServer.
func (s *Agents) DeleteAgent(ctx context.Context, req *agentv1.DeleteAgentRequest) (*agentv1.DeleteAgentResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("id", req.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.service.Delete(ctx, by, u); err != nil {
		return nil, err
	}
	return &agentv1.DeleteAgentResponse{Success: true}, nil
}

// ListAgents implements agentv1.AgentServiceServer.
func (s *Agents) ListAgents(ctx context.Context, req *agentv1.ListAgentsRequest) (*agentv1.ListAgentsResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := page.List{Tenant: by.Tenant, Kind: "agents", Filter: []string{req.GetStatus(), req.GetEnvironment(), req.GetTeam()}}
	var after uuid.UUID
	if _, err := page.Read(list, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	all, total, err := s.service.Agents(ctx, by.Tenant, agent.Filter{
		Status: optional(req.GetStatus()), Environment: optional(req.GetEnvironment()), Team: optional(req.GetTeam()),
	}, after, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(a *agentv1.Agent) any { return a.GetId() })
	if err != nil {
		return nil, err
	}
	return &agentv1.ListAgentsResponse{Agents: all, NextPageToken: next, TotalCount: total}, nil
}
