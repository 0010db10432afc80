package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// marker is in every name and text of what a tenant has.
const marker = "theirs-and-nobody-elses"

// belongings are the ids of one of everything that a tenant can have.
type belongings struct {
	tenant, envelope, execution, decision, event string
	policy, budget, agent, key, keyID, approval  string
	rerate, wallet, reservation, webhook         string
}

// furnish gives a tenant one of everything.
func furnish(t *testing.T, tn *running.Tenant) *belongings {
	t.Helper()
	b := &belongings{tenant: tn.ID}
	c, keyID := tn.IssueKey(t, &controlplanev1.IssueApiKeyRequest{Name: marker, Scopes: []string{"*"}, AgentId: marker, Team: marker, UserId: marker})
	b.key, b.keyID = c.Key, keyID
	b.policy = tn.Policy(t, marker, &policyv1.PolicyScope{ToolNames: []string{marker}}, &policyv1.PolicyRule{
		RuleId: "ask", Name: marker, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL, Message: marker}},
	}).GetPolicyId()
	b.budget = tn.Budget(t, &costv1.Budget{Name: marker, Limits: &costv1.BudgetLimits{MaxCostUsd: 100, MaxToolCalls: 100}}).GetBudgetId()

	ctx := t.Context()
	wallet, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Name: marker, Description: marker})
	if err != nil {
		t.Fatal(err)
	}
	b.wallet = wallet.GetWallet().GetWalletId()
	if _, err := c.Wallets.TopUpWallet(ctx, &walletv1.TopUpWalletRequest{WalletId: b.wallet, AmountNano: 1e9, Reference: marker, IdempotencyKey: newKey()}); err != nil {
		t.Fatal(err)
	}
	agent, err := c.Agents.CreateAgent(ctx, &agentv1.CreateAgentRequest{Name: marker, Description: marker})
	if err != nil {
		t.Fatal(err)
	}
	b.agent = agent.GetAgent().GetId()
	held := running.Inline(marker, running.Tool("search"))
	held.Estimate = &governancev1.Estimate{CostUsd: 1}
	allowed, err := c.Governance.Authorize(ctx, held)
	if err != nil || allowed.GetDecision() != governancev1.Decision_DECISION_ALLOW {
		t.Fatalf("authorize: %v %v", allowed, err)
	}
	b.decision, b.envelope, b.reservation = allowed.GetDecisionId(), allowed.GetEnvelopeId(), allowed.GetHold().GetReservationId()
	asked, err := c.Governance.Authorize(ctx, running.In(b.envelope, running.Tool(marker)))
	if err != nil {
		t.Fatal(err)
	}
	if b.approval = asked.GetApproval().GetApprovalId(); b.approval == "" {
		t.Fatalf("no approval was asked for: %v", asked)
	}
	env, err := c.Envelopes.GetEnvelope(ctx, &envelopev1.GetEnvelopeRequest{EnvelopeId: b.envelope})
	if err != nil {
		t.Fatal(err)
	}
	b.execution = env.GetEnvelope().GetExecutionId()
	event, err := c.Events.PublishEvent(ctx, &eventstorev1.PublishEventRequest{Event: &eventstorev1.EventPayload{
		EventType: "llm_call", EnvelopeId: b.envelope, ExecutionId: b.execution, WorkflowId: marker, Labels: map[string]string{"label": marker}}})
	if err != nil {
		t.Fatal(err)
	}
	b.event = event.GetEventId()
	if _, err := c.Prices.ImportPrices(ctx, &pricingv1.ImportPricesRequest{Note: marker, Prices: []*pricingv1.Price{
		{Model: marker, Rates: &pricingv1.Rates{InputNano: 1}}}}); err != nil {
		t.Fatal(err)
	}
	rerated, err := c.Prices.Rerate(ctx, &pricingv1.RerateRequest{
		From: timestamppb.New(time.Unix(0, 0)), Until: timestamppb.Now(), Model: marker, Apply: true, IdempotencyKey: newKey()})
	if err != nil {
		t.Fatal(err)
	}
	b.rerate = rerated.GetReport().GetRerateId()
	if _, err := brainv1.NewImmuneSystemServiceClient(c.Conn).ReportIncident(ctx, &brainv1.ReportIncidentRequest{
		Incident: &brainv1.Incident{Description: marker, Details: map[string]string{"agent_id": marker}}}); err != nil {
		t.Fatal(err)
	}
	hook, err := controlplanev1.NewWebhookServiceClient(tn.Owner.Conn).CreateWebhook(ctx, &controlplanev1.CreateWebhookRequest{
		Url: "https://" + marker + ".example/hook", Description: marker, EventTypes: []string{"approval.cancelled"}})
	if err != nil {
		t.Fatal(err)
	}
	b.webhook = hook.GetWebhook().GetWebhookId()
	return b
}

// replaced are ids of the same form that nobody has.
func (b *belongings) replaced() *belongings {
	return &belongings{
		tenant: b.tenant, envelope: newKey(), execution: newKey(), decision: newKey(), event: newKey(),
		policy: newKey(), budget: newKey(), agent: newKey(), key: b.key, keyID: flip(b.keyID), approval: newKey(), rerate: newKey(),
		wallet: newKey(), reservation: newKey(), webhook: newKey(),
	}
}

// flip turns an id that is no UUID into another of its form.
func flip(id string) string {
	if strings.Count(id, "-") == 4 {
		return newKey()
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '8' || r >= 'a' && r <= 'y' {
			return r + 1
		}
		return r
	}, id)
}

// awaitEvents returns when what happened so far is in the event store and in
// the audit log.
func (b *belongings) awaitEvents(t *testing.T, db *running.Database) {
	t.Helper()
	running.Eventually(t, 60*time.Second, func(ctx context.Context) error {
		n, err := db.TryCount(ctx, `select count(*) from fulcrum.outbox o where o.tenant_id = $1 and o.stream = 1 and not (
			exists (select from fulcrum.events e where e.tenant_id = o.tenant_id and e.event_id = o.event_id) and
			exists (select from fulcrum.audit_leaves l where l.tenant_id = o.tenant_id and l.event_id = o.event_id))`, b.tenant)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d events are still on their way", n)
		}
		return err
	})
}

// fingerprint changes if anything that is the tenant's changes. What services
// note down by themselves, such as when a key was last used, is left out.
func (b *belongings) fingerprint(t *testing.T, db *running.Database) string {
	t.Helper()
	var parts []string
	for _, table := range []string{
		"envelopes", "decisions", "approvals", "approval_votes", "policies", "policy_versions", "policy_tests", "policy_activations", "policy_shadows", "budgets", "budget_windows",
		"reservations", "settlements", "ledger_entries", "agents", "users", "config_bundles", "events", "price_lists", "price_versions", "price_rerates", "charge_corrections", "audit_leaves", "idempotency_keys",
		"wallets", "wallet_keys", "ledger_movements",
		"incidents", "attack_patterns", "generated_policies", "immune_detectors",
		"webhook_endpoints", "webhook_secrets",
	} {
		sums, err := db.Texts(t.Context(), `select count(*) || ':' || coalesce(md5(string_agg(x::text, ',' order by x::text)), '')
			from fulcrum.`+table+` x where tenant_id = $1`, b.tenant)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, table+"="+strings.Join(sums, ""))
	}
	parts = append(parts, fmt.Sprint("keys=", db.Count(t, "select count(*) from fulcrum.api_keys where tenant_id = $1 and revoked_at is null", b.tenant)))
	return strings.Join(parts, " ")
}

// shownIn names what of the belongings is in a text and was not in the request
// that the text answers.
func (b *belongings) shownIn(text string, req proto.Message) string {
	asked := protojson.Format(req)
	for name, value := range map[string]string{
		"a name": marker, "the tenant's id": b.tenant, "the envelope's id": b.envelope, "the execution's id": b.execution,
		"the decision's id": b.decision, "the event's id": b.event, "the policy's id": b.policy, "the budget's id": b.budget,
		"the agent's id": b.agent, "the key's id": b.keyID, "the approval's id": b.approval,
		"the re-rating's id": b.rerate,
		"the wallet's id":    b.wallet, "the reservation's id": b.reservation,
	} {
		if strings.Contains(text, value) && !strings.Contains(asked, value) {
			return name
		}
	}
	return ""
}

func text(m proto.Message) string { return protojson.Format(m) }

func newKey() string { return running.NewKey() }
