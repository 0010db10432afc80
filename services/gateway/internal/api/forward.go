package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
)

// What follows belongs to other services. The connections carry the caller's
// identity to them and their faults back, both unchanged.

// Oracle is fulcrum.brain.v1.OracleService.
type Oracle struct {
	brainv1.UnimplementedOracleServiceServer
	budget brainv1.OracleServiceClient
}

// NewOracle returns the service over its owner.
func NewOracle(budget grpc.ClientConnInterface) *Oracle {
	return &Oracle{budget: brainv1.NewOracleServiceClient(budget)}
}

// PredictBudgetOverrun implements OracleService.
func (s *Oracle) PredictBudgetOverrun(ctx context.Context, req *brainv1.PredictBudgetOverrunRequest) (*brainv1.PredictBudgetOverrunResponse, error) {
	return s.budget.PredictBudgetOverrun(ctx, req)
}

// GetPredictionModel implements OracleService.
func (s *Oracle) GetPredictionModel(ctx context.Context, req *brainv1.GetPredictionModelRequest) (*brainv1.GetPredictionModelResponse, error) {
	return s.budget.GetPredictionModel(ctx, req)
}

// ListPredictionModels implements OracleService.
func (s *Oracle) ListPredictionModels(ctx context.Context, req *brainv1.ListPredictionModelsRequest) (*brainv1.ListPredictionModelsResponse, error) {
	return s.budget.ListPredictionModels(ctx, req)
}

// Tenant is fulcrum.tenant.v1.TenantService.
type Tenant struct {
	tenantv1.UnimplementedTenantServiceServer
	keys tenantv1.TenantServiceClient
}

// NewTenant returns the service over its owner.
func NewTenant(controlPlane grpc.ClientConnInterface) *Tenant {
	return &Tenant{keys: tenantv1.NewTenantServiceClient(controlPlane)}
}

// CreateApiKey implements TenantService.
func (s *Tenant) CreateApiKey(ctx context.Context, req *tenantv1.CreateApiKeyRequest) (*tenantv1.CreateApiKeyResponse, error) {
	return s.keys.CreateApiKey(ctx, req)
}

// ListApiKeys implements TenantService.
func (s *Tenant) ListApiKeys(ctx context.Context, req *tenantv1.ListApiKeysRequest) (*tenantv1.ListApiKeysResponse, error) {
	return s.keys.ListApiKeys(ctx, req)
}

// RevokeApiKey implements TenantService.
func (s *Tenant) RevokeApiKey(ctx context.Context, req *tenantv1.RevokeApiKeyRequest) (*tenantv1.RevokeApiKeyResponse, error) {
	return s.keys.RevokeApiKey(ctx, req)
}

// Agents is fulcrum.agent.v1.AgentService: agents are the control plane's, what
// was measured of them is the event processor's.
type Agents struct {
	agentv1.UnimplementedAgentServiceServer
	agents  agentv1.AgentServiceClient
	metrics agentv1.AgentServiceClient
}

// NewAgents returns the service over its owners.
func NewAgents(controlPlane, eventProcessor grpc.ClientConnInterface) *Agents {
	return &Agents{agents: agentv1.NewAgentServiceClient(controlPlane), metrics: agentv1.NewAgentServiceClient(eventProcessor)}
}

// CreateAgent implements AgentService.
func (s *Agents) CreateAgent(ctx context.Context, req *agentv1.CreateAgentRequest) (*agentv1.CreateAgentResponse, error) {
	return s.agents.CreateAgent(ctx, req)
}

// GetAgent implements AgentService.
func (s *Agents) GetAgent(ctx context.Context, req *agentv1.GetAgentRequest) (*agentv1.GetAgentResponse, error) {
	return s.agents.GetAgent(ctx, req)
}

// ListAgents implements AgentService.
func (s *Agents) ListAgents(ctx context.Context, req *agentv1.ListAgentsRequest) (*agentv1.ListAgentsResponse, error) {
	return s.agents.ListAgents(ctx, req)
}

// UpdateAgent implements AgentService.
func (s *Agents) UpdateAgent(ctx context.Context, req *agentv1.UpdateAgentRequest) (*agentv1.UpdateAgentResponse, error) {
	return s.agents.UpdateAgent(ctx, req)
}

// DeleteAgent implements AgentService.
func (s *Agents) DeleteAgent(ctx context.Context, req *agentv1.DeleteAgentRequest) (*agentv1.DeleteAgentResponse, error) {
	return s.agents.DeleteAgent(ctx, req)
}

// GetAgentMetrics implements AgentService.
func (s *Agents) GetAgentMetrics(ctx context.Context, req *agentv1.GetAgentMetricsRequest) (*agentv1.GetAgentMetricsResponse, error) {
	return s.metrics.GetAgentMetrics(ctx, req)
}

// Audit is fulcrum.audit.v1.AuditService.
type Audit struct {
	auditv1.UnimplementedAuditServiceServer
	log auditv1.AuditServiceClient
}

// NewAudit returns the service over its owner.
func NewAudit(audit grpc.ClientConnInterface) *Audit {
	return &Audit{log: auditv1.NewAuditServiceClient(audit)}
}

// GetLogCheckpoint implements AuditService.
func (s *Audit) GetLogCheckpoint(ctx context.Context, req *auditv1.GetLogCheckpointRequest) (*auditv1.GetLogCheckpointResponse, error) {
	return s.log.GetLogCheckpoint(ctx, req)
}

// GetInclusionProof implements AuditService.
func (s *Audit) GetInclusionProof(ctx context.Context, req *auditv1.GetInclusionProofRequest) (*auditv1.GetInclusionProofResponse, error) {
	return s.log.GetInclusionProof(ctx, req)
}

// GetConsistencyProof implements AuditService.
func (s *Audit) GetConsistencyProof(ctx context.Context, req *auditv1.GetConsistencyProofRequest) (*auditv1.GetConsistencyProofResponse, error) {
	return s.log.GetConsistencyProof(ctx, req)
}

// ListEntries implements AuditService.
func (s *Audit) ListEntries(ctx context.Context, req *auditv1.ListEntriesRequest) (*auditv1.ListEntriesResponse, error) {
	return s.log.ListEntries(ctx, req)
}

// GetVerificationKey implements AuditService.
func (s *Audit) GetVerificationKey(ctx context.Context, req *auditv1.GetVerificationKeyRequest) (*auditv1.GetVerificationKeyResponse, error) {
	return s.log.GetVerificationKey(ctx, req)
}

// Admin is fulcrum.controlplane.v1.AdminService.
type Admin struct {
	controlplanev1.UnimplementedAdminServiceServer
	admin controlplanev1.AdminServiceClient
}

// NewAdmin returns the service over its owner.
func NewAdmin(controlPlane grpc.ClientConnInterface) *Admin {
	return &Admin{admin: controlplanev1.NewAdminServiceClient(controlPlane)}
}

// CreateTenant implements AdminService.
func (s *Admin) CreateTenant(ctx context.Context, req *controlplanev1.CreateTenantRequest) (*controlplanev1.CreateTenantResponse, error) {
	return s.admin.CreateTenant(ctx, req)
}

// ListTenants implements AdminService.
func (s *Admin) ListTenants(ctx context.Context, req *controlplanev1.ListTenantsRequest) (*controlplanev1.ListTenantsResponse, error) {
	return s.admin.ListTenants(ctx, req)
}

// IssueApiKey implements AdminService.
func (s *Admin) IssueApiKey(ctx context.Context, req *controlplanev1.IssueApiKeyRequest) (*controlplanev1.IssueApiKeyResponse, error) {
	return s.admin.IssueApiKey(ctx, req)
}

// UpdateTenantSettings implements AdminService.
func (s *Admin) UpdateTenantSettings(ctx context.Context, req *controlplanev1.UpdateTenantSettingsRequest) (*controlplanev1.UpdateTenantSettingsResponse, error) {
	return s.admin.UpdateTenantSettings(ctx, req)
}

// Tools is fulcrum.controlplane.v1.ToolService.
type Tools struct {
	controlplanev1.UnimplementedToolServiceServer
	tools controlplanev1.ToolServiceClient
}

// NewTools returns the service over its owner.
func NewTools(controlPlane grpc.ClientConnInterface) *Tools {
	return &Tools{tools: controlplanev1.NewToolServiceClient(controlPlane)}
}

// RegisterTool implements ToolService.
func (s *Tools) RegisterTool(ctx context.Context, req *controlplanev1.RegisterToolRequest) (*controlplanev1.RegisterToolResponse, error) {
	return s.tools.RegisterTool(ctx, req)
}

// ImportTools implements ToolService.
func (s *Tools) ImportTools(ctx context.Context, req *controlplanev1.ImportToolsRequest) (*controlplanev1.ImportToolsResponse, error) {
	return s.tools.ImportTools(ctx, req)
}

// ListTools implements ToolService.
func (s *Tools) ListTools(ctx context.Context, req *controlplanev1.ListToolsRequest) (*controlplanev1.ListToolsResponse, error) {
	return s.tools.ListTools(ctx, req)
}

// DeleteTool implements ToolService.
func (s *Tools) DeleteTool(ctx context.Context, req *controlplanev1.DeleteToolRequest) (*controlplanev1.DeleteToolResponse, error) {
	return s.tools.DeleteTool(ctx, req)
}

// relay passes a peer's stream on until either side ends it, or this instance
// stops.
func relay[T any](ctx context.Context, from grpc.ServerStreamingClient[T], send func(*T) error) error {
	type received struct {
		m   *T
		err error
	}
	messages := make(chan received)
	go func() {
		for {
			m, err := from.Recv() // ends with ctx, the call's
			select {
			case messages <- received{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rpc.Draining(ctx):
			return fault.New(fault.Down, "this instance is stopping").WithReason("STOPPING")
		case r := <-messages:
			if errors.Is(r.err, io.EOF) {
				return nil
			}
			if r.err != nil {
				return r.err
			}
			if err := send(r.m); err != nil {
				return err
			}
		}
	}
}
