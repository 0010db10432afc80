package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/agent"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// CreateAgent implements agent.Store.
func (s *Store) CreateAgent(ctx context.Context, by identity.Principal, a *agentv1.Agent, once change.Once) (*agentv1.Agent, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("new agent id: %w", err)
	}
	config, err := writeConfig(a.GetConfig())
	if err != nil {
		return nil, err
	}
	stored := proto.CloneOf(a)
	_, err = s.create(ctx, by, by.Tenant, once, nil, stored, func(ctx context.Context, q *controldb.Queries) (told, error) {
		row, err := q.InsertAgent(ctx, controldb.InsertAgentParams{
			TenantID: by.Tenant, ID: id, Name: a.GetName(), Description: a.GetDescription(), Model: a.GetModel(),
			Environment: a.GetEnvironment(), Team: a.GetTeam(), Config: config,
		})
		if err != nil {
			return told{}, fmt.Errorf("insert agent: %w", err)
		}
		stored.Id, stored.TenantId, stored.Status = id.String(), by.Tenant.String(), row.Status
		stored.CreatedAt, stored.UpdatedAt = timestamppb.New(row.CreatedAt), timestamppb.New(row.UpdatedAt)
		return fact(change.Fact{Type: "agent_created", Action: "agent.create", Resource: "agent:" + id.String(), After: stored}), nil
	})
	return stored, err
}

// Agent implements agent.Store.
func (s *Store) Agent(ctx context.Context, tenant, id uuid.UUID) (a *agentv1.Agent, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		row, err := controldb.New(tx).Agent(ctx, controldb.AgentParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "agent", id.String())
		}
		a, err = agentOf(tenant, row)
		return err
	})
	return a, err
}

// ChangeAgent implements agent.Store.
func (s *Store) ChangeAgent(ctx context.Context, by identity.Principal, id uuid.UUID, edit func(*agentv1.Agent) error) (stored *agentv1.Agent, err error) {
	_, err = s.change(ctx, by, by.Tenant, nil, func(ctx context.Context, q *controldb.Queries) (told, error) {
		row, err := q.LockAgent(ctx, controldb.LockAgentParams{TenantID: by.Tenant, ID: id})
		if err != nil {
			return told{}, missing(err, "agent", id.String())
		}
		old, err := agentOf(by.Tenant, controldb.AgentRow(row))
		if err != nil {
			return told{}, err
		}
		stored = proto.CloneOf(old)
		if err := edit(stored); err != nil {
			return told{}, err
		}
		if proto.Equal(old, stored) {
			return told{}, errUnchanged
		}
		config, err := writeConfig(stored.GetConfig())
		if err != nil {
			return told{}, err
		}
		at, err := q.UpdateAgent(ctx, controldb.UpdateAgentParams{
			TenantID: by.Tenant, ID: id, Name: stored.GetName(), Description: stored.GetDescription(), Status: stored.GetStatus(), Config: config,
		})
		if err != nil {
			return told{}, fmt.Errorf("update agent: %w", err)
		}
		stored.UpdatedAt = timestamppb.New(at)
		if stored.GetStatus() == agent.Deleted {
			return agentGone(ctx, q, by, old, stored)
		}
		return fact(change.Fact{Type: "agent_updated", Action: "agent.update", Resource: "agent:" + id.String(), Before: old, After: stored}), nil
	})
	return stored, err
}

// agentGone revokes the keys bound to a deleted agent: a key must not outlive
// what it acts as.
func agentGone(ctx context.Context, q *controldb.Queries, by identity.Principal, old, stored *agentv1.Agent) (told, error) {
	what := fact(change.Fact{Type: "agent_deleted", Action: "agent.delete", Resource: "agent:" + old.GetId(), Before: old, After: stored})
	ids, err := q.RevokeKeysOfAgent(ctx, controldb.RevokeKeysOfAgentParams{TenantID: by.Tenant, AgentID: old.GetId(), RevokedBy: by.Actor()})
	if err != nil {
		return told{}, fmt.Errorf("revoke keys of agent: %w", err)
	}
	for _, id := range ids {
		what.facts = append(what.facts, change.Fact{
			Type: "api_key_revoked", Action: "api_key.revoke", Resource: "api_key:" + id,
			Before: &structpb.Struct{Fields: map[string]*structpb.Value{
				"key_id": structpb.NewStringValue(id), "agent_id": structpb.NewStringValue(old.GetId()),
			}},
		})
		what.config = append(what.config, []*busv1.Event{keyGone(id)}...)
	}
	return what, nil
}

// Agents implements agent.Store.
func (s *Store) Agents(ctx context.Context, tenant uuid.UUID, f agent.Filter, after uuid.UUID, limit int) (page []*agentv1.Agent, total int32, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		rows, err := q.Agents(ctx, controldb.AgentsParams{
			TenantID: tenant, Status: f.Status, Environment: f.Environment, Team: f.Team, AfterID: after, Lim: int32(limit),
		})
		if err != nil {
			return fmt.Errorf("list agents: %w", err)
		}
		for _, row := range rows {
			a, err := agentOf(tenant, controldb.AgentRow(row))
			if err != nil {
				return err
			}
			page = append(page, a)
		}
		total, err = q.CountAgents(ctx, controldb.CountAgentsParams{TenantID: tenant, Status: f.Status, Environment: f.Environment, Team: f.Team})
		return err
	})
	return page, total, err
}

func agentOf(tenant uuid.UUID, row controldb.AgentRow) (*agentv1.Agent, error) {
	config := &structpb.Struct{}
	if err := protojson.Unmarshal(row.Config, config); err != nil {
		return nil, fmt.Errorf("read config of agent %s: %w", row.ID, err)
	}
	if len(config.GetFields()) == 0 {
		config = nil
	}
	return &agentv1.Agent{
		Id: row.ID.String(), TenantId: tenant.String(), Name: row.Name, Description: row.Description, Model: row.Model,
		Environment: row.Environment, Team: row.Team, Status: row.Status, Config: config,
		CreatedAt: timestamppb.New(row.CreatedAt), UpdatedAt: timestamppb.New(row.UpdatedAt),
	}, nil
}

// writeConfig refuses what JSON cannot say: the numbers that are none, which
// only binary callers can send.
func writeConfig(c *structpb.Struct) (json.RawMessage, error) {
	if c == nil {
		return json.RawMessage("{}"), nil
	}
	raw, err := protojson.Marshal(c)
	if err != nil {
		return nil, fault.Field("config", "holds a number or a text that JSON cannot say")
	}
	return raw, nil
}
