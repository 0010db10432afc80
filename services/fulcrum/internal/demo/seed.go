package demo

import (
	"context"
	"io"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
)

// Furnishing is what a seeded tenant has.
type Furnishing int

// The demo's policies, with or without its budgets.
const (
	PoliciesOnly Furnishing = iota
	WithBudgets
)

// Seed makes one tenant with the demo's policies, and budgets if asked, and
// returns a key of the agent research-bot that may do everything in it.
func Seed(ctx context.Context, t Target, f Furnishing) (secret.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	root, err := dial(t.GRPCAddr, t.AdminKey)
	if err != nil {
		return secret.Secret{}, err
	}
	defer root.close()

	id, err := createTenant(ctx, root, "demo")
	if err != nil {
		return secret.Secret{}, err
	}
	owner, err := issue(ctx, root, &controlplanev1.IssueApiKeyRequest{TenantId: id, Name: "owner", Scopes: []string{"*"}})
	if err != nil {
		return secret.Secret{}, err
	}
	w := &world{target: t, acme: tenant{id: id}}
	if w.acme.owner, err = dial(t.GRPCAddr, owner); err != nil {
		return secret.Secret{}, err
	}
	defer w.close()
	agent, err := w.acme.owner.agents.CreateAgent(ctx, &agentv1.CreateAgentRequest{Name: "research-bot", Team: "growth", Environment: "demo"})
	if err != nil {
		return secret.Secret{}, err
	}
	w.acme.agent = agent.GetAgent().GetId()
	key, err := issue(ctx, root, &controlplanev1.IssueApiKeyRequest{TenantId: id, Name: "demo", Scopes: []string{"*"}, AgentId: w.acme.agent, Team: "growth"})
	if err != nil {
		return secret.Secret{}, err
	}
	r := newReport(io.Discard)
	r.try("policies", func() (string, error) { return w.createPolicies(ctx) })
	await := w.awaitPolicies
	if f == WithBudgets {
		r.try("budgets", func() (string, error) { return w.createBudgets(ctx) })
		await = w.awaitConfiguration
	}
	r.try("configuration", func() (string, error) { return await(ctx) })
	return key, r.err()
}
