package api

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func refOf(ctx context.Context, id string) (ledger.Ref, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return ledger.Ref{}, err
	}
	parsed, err := uuid.Parse(id)
	if err != nil || parsed == uuid.Nil {
		return ledger.Ref{}, fault.Field("reservation_id", "is not a UUID")
	}
	return ledger.Ref{Tenant: tenant, ID: parsed}, nil
}

// longest is the most bytes of one name.
const longest = 256

func subject(in *budgetv1.Subject) (catalog.Subject, error) {
	s := catalog.Subject{
		Team: in.GetTeam(), AgentID: in.GetAgentId(), UserID: in.GetUserId(), WorkflowID: in.GetWorkflowId(),
		APIKeyID: in.GetApiKeyId(), Model: in.GetModel(), EnvelopeID: in.GetEnvelopeId(), Ancestors: in.GetAncestorEnvelopeIds(),
	}
	for _, f := range [...]struct{ name, value string }{
		{"subject.team", s.Team}, {"subject.agent_id", s.AgentID}, {"subject.user_id", s.UserID}, {"subject.workflow_id", s.WorkflowID},
		{"subject.api_key_id", s.APIKeyID}, {"subject.model", s.Model}, {"subject.envelope_id", s.EnvelopeID},
	} {
		if err := text(f.name, f.value); err != nil {
			return s, err
		}
	}
	for _, v := range s.Ancestors {
		if err := text("subject.ancestor_envelope_ids", v); err != nil {
			return s, err
		}
	}
	return s, nil
}

// text refuses what is too long, and what no database stores: it would fail the
// whole batch it came in.
func text(field, v string) error {
	if len(v) > longest {
		return fault.Field(field, "has more than %d bytes", longest)
	}
	if strings.ContainsRune(v, 0) {
		return fault.Field(field, "contains a zero byte")
	}
	return nil
}

func amounts(in *governancev1.Amounts) (amount.Amounts, error) {
	var a amount.Amounts
	a[amount.Cost] = in.GetCostNano()
	a[amount.InputTokens] = in.GetInputTokens()
	a[amount.OutputTokens] = in.GetOutputTokens()
	a[amount.LLMCalls] = in.GetLlmCalls()
	a[amount.ToolCalls] = in.GetToolCalls()
	a[amount.Seconds] = in.GetSeconds()
	if a.IsZero() {
		return a, fault.Field("amounts", "must ask for something: a call, tokens, time or money").WithReason("AMOUNTS_EMPTY")
	}
	return a.WithTotal("amounts")
}

func envelopeLimits(in *budgetv1.EnvelopeLimits) catalog.EnvelopeLimits {
	out := catalog.EnvelopeLimits{EnvelopeID: in.GetEnvelopeId(), Slice: in.GetSlice()}
	out.Limits[amount.Cost] = in.GetMaxCostNano()
	out.Limits[amount.TotalTokens] = in.GetMaxTokens()
	out.Limits[amount.LLMCalls] = in.GetMaxLlmCalls()
	out.Limits[amount.ToolCalls] = in.GetMaxToolCalls()
	out.Limits[amount.InputTokens] = in.GetMaxInputTokens()
	out.Limits[amount.OutputTokens] = in.GetMaxOutputTokens()
	out.Limits[amount.Seconds] = in.GetMaxSeconds()
	return out
}

func usage(in *governancev1.Usage) (*ledger.Usage, error) {
	if in == nil {
		return nil, nil
	}
	u := &ledger.Usage{
		Model: in.GetModel(), Input: in.GetInputTokens(), Cached: in.GetCachedTokens(), Output: in.GetOutputTokens(),
		Reasoning: in.GetReasoningTokens(), CacheWrite: in.GetCacheWriteTokens(), ToolCalls: in.GetToolCalls(), Seconds: in.GetSeconds(),
	}
	if err := text("usage.model", u.Model); err != nil {
		return nil, err
	}
	for _, f := range [...]struct {
		name string
		n    int64
	}{
		{"usage.input_tokens", u.Input}, {"usage.cached_tokens", u.Cached}, {"usage.output_tokens", u.Output}, {"usage.reasoning_tokens", u.Reasoning},
		{"usage.cache_write_tokens", u.CacheWrite}, {"usage.tool_calls", u.ToolCalls}, {"usage.seconds", u.Seconds},
	} {
		if f.n < 0 {
			return nil, fault.Field(f.name, "cannot be negative")
		}
	}
	if in.CostUsd != nil {
		cost, err := money.FromUSD(in.GetCostUsd())
		if err != nil {
			return nil, err
		}
		u.Cost, u.CostKnown = cost, true
	}
	return u, nil
}

func protoAmounts(a amount.Amounts) *governancev1.Amounts {
	return &governancev1.Amounts{
		CostNano:     a[amount.Cost],
		InputTokens:  a[amount.InputTokens],
		OutputTokens: a[amount.OutputTokens],
		LlmCalls:     a[amount.LLMCalls],
		ToolCalls:    a[amount.ToolCalls],
		Seconds:      a[amount.Seconds],
	}
}

func budgetStates(in []ledger.State) []*governancev1.BudgetState {
	if len(in) == 0 {
		return nil
	}
	out := make([]*governancev1.BudgetState, len(in))
	for i, s := range in {
		out[i] = budgetState(s)
	}
	return out
}

func budgetState(s ledger.State) *governancev1.BudgetState {
	out := &governancev1.BudgetState{
		Id:        s.Budget,
		Name:      s.Name,
		Unit:      s.Unit.String(),
		Limit:     s.Unit.Shown(s.Limit),
		Spent:     s.Unit.Shown(s.Spent),
		Held:      s.Unit.Shown(s.Held),
		Remaining: s.Unit.Shown(s.Remaining),
		Requested: s.Unit.Shown(s.Requested),
		Status:    string(s.Status),
		Period:    s.Period.String(),
	}
	if !s.ResetsAt.IsZero() {
		out.ResetsAt = timestamppb.New(s.ResetsAt)
	}
	if !s.Overridden.IsZero() {
		out.OverriddenUntil = timestamppb.New(s.Overridden)
	}
	return out
}
