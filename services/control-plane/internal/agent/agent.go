// Package agent keeps the register of agents.
package agent

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// The states of an agent, as the published contract spells them.
const (
	Active  = "active"
	Paused  = "paused"
	Failed  = "error"
	Deleted = "deleted"
)

// maxConfig is how many bytes an agent's config may have.
const maxConfig = 64 << 10

// Filter selects agents; nil selects all, for the status all but the deleted.
type Filter struct{ Status, Environment, Team *string }

// Store keeps agents. Each change is one transaction that also records what
// happened.
type Store interface {
	// CreateAgent stores an agent under an id of its own. Repeated, it returns
	// what it returned the first time; it is a Conflict if once stands for
	// another request.
	CreateAgent(ctx context.Context, by identity.Principal, a *agentv1.Agent, once change.Once) (*agentv1.Agent, error)
	// Agent returns an agent, a deleted one too, or NotFound.
	Agent(ctx context.Context, tenant, id uuid.UUID) (*agentv1.Agent, error)
	// ChangeAgent applies edit to the agent while nobody else can change it. An
	// agent that comes out Deleted takes the keys bound to it along.
	ChangeAgent(ctx context.Context, by identity.Principal, id uuid.UUID, edit func(*agentv1.Agent) error) (*agentv1.Agent, error)
	// Agents returns up to limit agents after an id, oldest first, and how many
	// there are in all.
	Agents(ctx context.Context, tenant uuid.UUID, f Filter, after uuid.UUID, limit int) ([]*agentv1.Agent, int32, error)
}

// Service is what may be done with agents.
type Service struct{ store Store }

// New returns a Service over store.
func New(store Store) *Service { return &Service{store: store} }

// Create registers an active agent.
func (s *Service) Create(ctx context.Context, by identity.Principal, a *agentv1.Agent, once change.Once) (*agentv1.Agent, error) {
	a.Name = strings.TrimSpace(a.GetName())
	a.Status = Active
	if err := check(a); err != nil {
		return nil, err
	}
	return s.store.CreateAgent(ctx, by, a, once)
}

// Agent returns one agent. A deleted one is still there to be read.
func (s *Service) Agent(ctx context.Context, tenant, id uuid.UUID) (*agentv1.Agent, error) {
	return s.store.Agent(ctx, tenant, id)
}

// Agents returns up to limit agents after an id, and how many there are in all.
func (s *Service) Agents(ctx context.Context, tenant uuid.UUID, f Filter, after uuid.UUID, limit int) ([]*agentv1.Agent, int32, error) {
	return s.store.Agents(ctx, tenant, f, after, limit)
}

// Update sets what is set in patch.
func (s *Service) Update(ctx context.Context, by identity.Principal, id uuid.UUID, patch *agentv1.Agent) (*agentv1.Agent, error) {
	return s.store.ChangeAgent(ctx, by, id, func(a *agentv1.Agent) error {
		if a.GetStatus() == Deleted {
			return fault.New(fault.Precondition, "a deleted agent cannot be changed").WithReason("AGENT_DELETED")
		}
		if name := strings.TrimSpace(patch.GetName()); name != "" {
			a.Name = name
		}
		if patch.GetDescription() != "" {
			a.Description = patch.GetDescription()
		}
		if patch.GetStatus() != "" {
			a.Status = patch.GetStatus()
		}
		if patch.GetConfig() != nil {
			a.Config = patch.GetConfig()
		}
		return check(a)
	})
}

// Delete marks an agent as deleted and revokes the keys bound to it. Deleting a
// deleted agent does nothing.
func (s *Service) Delete(ctx context.Context, by identity.Principal, id uuid.UUID) error {
	_, err := s.store.ChangeAgent(ctx, by, id, func(a *agentv1.Agent) error {
		a.Status = Deleted
		return nil
	})
	return err
}

func check(a *agentv1.Agent) error {
	switch {
	case a.GetName() == "":
		return fault.Field("name", "is required")
	case a.GetStatus() != Active && a.GetStatus() != Paused && a.GetStatus() != Failed:
		return fault.Field("status", "must be active, paused or error; deleting has its own call")
	case proto.Size(a.GetConfig()) > maxConfig:
		return fault.Field("config", "has %d bytes, more than %d", proto.Size(a.GetConfig()), maxConfig)
	}
	return nil
}
