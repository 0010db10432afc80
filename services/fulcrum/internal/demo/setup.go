package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
)

// tenant is one customer of the demo with the keys of its people and agents.
type tenant struct {
	id           string
	owner        *client       // may do everything in this tenant
	agent        string        // id of the agent research-bot
	agentKey     secret.Secret // of the agent research-bot, team growth
	publishedKey secret.Secret // of the agent crm-bot, team growth
	reviewerKey  secret.Secret // of dana, who may answer approvals
}

// world is what setUp made: the tenants that the steps play in.
type world struct {
	target       Target
	acme, globex tenant
	reviewer     *client
}

func (w *world) close() {
	for _, c := range []*client{w.acme.owner, w.globex.owner, w.reviewer} {
		if c != nil {
			c.close()
		}
	}
}

var agentScopes = []string{"envelope:read", "envelope:write", "policy:read", "cost:read", "event:read", "event:write", "approval:read"}

// setUp creates two tenants, their keys, and acme's policies and budgets, all
// through the public API.
func setUp(ctx context.Context, t Target, r *report) (*world, error) {
	root, err := dial(t.GRPCAddr, t.AdminKey)
	if err != nil {
		return nil, err
	}
	defer root.close()

	w := &world{target: t}
	r.title("Two tenants")
	for _, s := range []struct {
		name string
		do   func() (string, error)
	}{
		{"create tenant acme with four keys", func() (string, error) { return w.createAcme(ctx, root) }},
		{"create tenant globex with one key", func() (string, error) { return w.createGlobex(ctx, root) }},
		{"acme switches its policies on", func() (string, error) { return w.createPolicies(ctx) }},
		{"acme sets its budgets", func() (string, error) { return w.createBudgets(ctx) }},
		{"the data plane has taken them over", func() (string, error) { return w.awaitConfiguration(ctx) }},
	} {
		if !r.try(s.name, s.do) {
			return nil, r.err()
		}
	}
	return w, nil
}

func (w *world) createAcme(ctx context.Context, root *client) (string, error) {
	id, err := createTenant(ctx, root, "acme")
	if err != nil {
		return "", err
	}
	w.acme.id = id
	owner, err := issue(ctx, root, &controlplanev1.IssueApiKeyRequest{TenantId: id, Name: "owner", Scopes: []string{"*"}, UserId: "olga"})
	if err != nil {
		return "", err
	}
	if w.acme.owner, err = dial(w.target.GRPCAddr, owner); err != nil {
		return "", err
	}
	if w.acme.agent, w.acme.agentKey, err = w.register(ctx, root, "research-bot"); err != nil {
		return "", err
	}
	if _, w.acme.publishedKey, err = w.register(ctx, root, "crm-bot"); err != nil {
		return "", err
	}
	if w.acme.reviewerKey, err = issue(ctx, root, &controlplanev1.IssueApiKeyRequest{
		TenantId: id, Name: "dana", Scopes: []string{"approval:read", "approval:write"}, UserId: "dana", Roles: []string{"finance-lead"}}); err != nil {
		return "", err
	}
	w.reviewer, err = dial(w.target.GRPCAddr, w.acme.reviewerKey)
	return "tenant " + id, err
}

// register makes an agent known to acme and gives it a key that is bound to it.
func (w *world) register(ctx context.Context, root *client, name string) (string, secret.Secret, error) {
	resp, err := w.acme.owner.agents.CreateAgent(ctx, &agentv1.CreateAgentRequest{Name: name, Team: "growth", Environment: "demo"})
	if err != nil {
		return "", secret.Secret{}, fmt.Errorf("register agent %s: %w", name, err)
	}
	id := resp.GetAgent().GetId()
	key, err := issue(ctx, root, &controlplanev1.IssueApiKeyRequest{
		TenantId: w.acme.id, Name: name, Scopes: agentScopes, AgentId: id, Team: "growth"})
	return id, key, err
}

func (w *world) createGlobex(ctx context.Context, root *client) (string, error) {
	id, err := createTenant(ctx, root, "globex")
	if err != nil {
		return "", err
	}
	w.globex.id = id
	owner, err := issue(ctx, root, &controlplanev1.IssueApiKeyRequest{TenantId: id, Name: "owner", Scopes: []string{"*"}, UserId: "gus"})
	if err != nil {
		return "", err
	}
	w.globex.owner, err = dial(w.target.GRPCAddr, owner)
	return "tenant " + id, err
}

func createTenant(ctx context.Context, root *client, name string) (string, error) {
	resp, err := root.admin.CreateTenant(ctx, &controlplanev1.CreateTenantRequest{Name: name})
	return resp.GetTenant().GetTenantId(), err
}

func issue(ctx context.Context, root *client, req *controlplanev1.IssueApiKeyRequest) (secret.Secret, error) {
	resp, err := root.admin.IssueApiKey(ctx, req)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("issue key %q: %w", req.GetName(), err)
	}
	return secret.New(resp.GetKeySecret()), nil
}

// eventually repeats do until it succeeds, for what is only promised soon.
func eventually(ctx context.Context, within time.Duration, do func() (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		result, err := do()
		if err == nil {
			return result, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("not within %s: %w", within, err)
		case <-tick.C:
		}
	}
}
