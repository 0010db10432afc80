package catalog

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// Load turns a published bundle into a Catalog at the given version.
func Load(tenant uuid.UUID, version int64, b *configv1.BudgetBundle) (*Catalog, error) {
	zone, err := loadZone(b.GetSettings().GetTimeZone(), time.UTC)
	if err != nil {
		return nil, fmt.Errorf("tenant's time zone: %w", err)
	}
	wallets := make([]*Wallet, 0, len(b.GetWallets()))
	for _, in := range b.GetWallets() {
		wallets = append(wallets, loadWallet(in))
	}
	budgets := make([]*Budget, 0, len(b.GetBudgets()))
	for _, in := range b.GetBudgets() {
		budget, err := loadBudget(in, zone)
		if err != nil {
			return nil, fmt.Errorf("budget %s: %w", in.GetBudgetId(), err)
		}
		if id := in.GetWalletId(); id != "" {
			i := slices.IndexFunc(wallets, func(w *Wallet) bool { return w.ID == id })
			if i < 0 {
				return nil, fmt.Errorf("budget %s: there is no wallet %s", in.GetBudgetId(), id)
			}
			budget.Wallet = wallets[i].Account
		}
		budgets = append(budgets, budget)
	}
	c, err := New(tenant, version, zone, budgets, price.NewTable(loadPrices(b.GetPrices())))
	if err != nil {
		return nil, err
	}
	return c.WithWallets(wallets), nil
}

func loadPrices(in []*configv1.Price) []price.Price {
	out := make([]price.Price, len(in))
	for i, p := range in {
		out[i] = price.Price{
			Model:      p.GetModel(),
			Input:      money.Nano(p.GetInputNanoPerMillion()),
			Output:     money.Nano(p.GetOutputNanoPerMillion()),
			Cached:     money.Nano(p.GetCachedInputNanoPerMillion()),
			CacheWrite: money.Nano(p.GetCacheWriteNanoPerMillion()),
			Reasoning:  money.Nano(p.GetReasoningNanoPerMillion()),
			PerCall:    money.Nano(p.GetPerCallNano()),
			From:       p.GetEffectiveFrom().AsTime(),
			Version:    p.GetVersion(),
			Ended:      p.GetEnded(),
			Revision:   p.GetRevision(),
		}
		for _, t := range p.GetTiers() {
			out[i].Tiers = append(out[i].Tiers, price.Tier{
				Above:      t.GetAboveInputTokens(),
				Input:      money.Nano(t.GetInputNanoPerMillion()),
				Output:     money.Nano(t.GetOutputNanoPerMillion()),
				Cached:     money.Nano(t.GetCachedInputNanoPerMillion()),
				CacheWrite: money.Nano(t.GetCacheWriteNanoPerMillion()),
				Reasoning:  money.Nano(t.GetReasoningNanoPerMillion()),
				PerCall:    money.Nano(t.GetPerCallNano()),
			})
		}
	}
	return out
}

func loadWallet(in *walletv1.Wallet) *Wallet {
	var cents []int32
	for _, n := range in.GetLowBalanceNano() {
		cents = append(cents, int32(min(n/cent, math.MaxInt32)))
	}
	return &Wallet{
		ID: in.GetWalletId(), Description: in.GetDescription(), LowBalances: in.GetLowBalanceNano(), FrozenReason: in.GetFrozenReason(),
		Etag: in.GetEtag(), CreatedAt: in.GetCreatedAt().AsTime(), UpdatedAt: in.GetUpdatedAt().AsTime(),
		Account: NewWallet(in.GetWalletId(), in.GetName(), in.GetFrozen(), cents),
	}
}

func loadBudget(in *costv1.Budget, tenantZone *time.Location) (*Budget, error) {
	if in.GetBudgetId() == "" {
		return nil, fmt.Errorf("has no id")
	}
	zone, err := loadZone(in.GetTimeZone(), tenantZone)
	if err != nil {
		return nil, err
	}
	limits, err := loadLimits(in.GetLimits())
	if err != nil {
		return nil, err
	}
	period, err := loadPeriod(in, zone)
	if err != nil {
		return nil, err
	}
	overrides, err := loadOverrides(in.GetOverrides())
	if err != nil {
		return nil, err
	}
	b := &Budget{
		ID:         in.GetBudgetId(),
		Overrides:  overrides,
		Name:       in.GetName(),
		Limits:     limits,
		Mode:       Mode(max(in.GetMode(), costv1.BudgetMode_BUDGET_MODE_HARD)),
		Suspended:  in.GetSuspended() || in.GetStatus() == costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED,
		Period:     period,
		Thresholds: loadThresholds(in.GetThresholds()),
	}
	s := in.GetScope()
	b.Scope = Scope{
		Team: s.GetTeam(), AgentID: s.GetAgentId(), UserID: s.GetUserId(), WorkflowID: s.GetWorkflowId(),
		APIKeyID: s.GetApiKeyId(), Model: s.GetModel(), EnvelopeID: s.GetEnvelopeId(),
	}
	if b.Scope.WorkflowID == "" {
		b.Scope.WorkflowID = in.GetWorkflowId()
	}
	return b, nil
}

func loadLimits(l *costv1.BudgetLimits) (a amount.Amounts, err error) {
	cost, err := money.FromUSD(l.GetMaxCostUsd())
	if err != nil {
		return a, fmt.Errorf("cost limit: %w", err)
	}
	a[amount.Cost] = int64(cost)
	a[amount.TotalTokens] = l.GetMaxTokens()
	a[amount.InputTokens] = l.GetMaxInputTokens()
	a[amount.OutputTokens] = l.GetMaxOutputTokens()
	a[amount.LLMCalls] = int64(l.GetMaxLlmCalls())
	a[amount.ToolCalls] = int64(l.GetMaxToolCalls())
	a[amount.Seconds] = l.GetMaxExecutionTimeSeconds()
	for u, n := range a {
		if n < 0 {
			return a, fmt.Errorf("limit of %s is negative", amount.Unit(u))
		}
	}
	return a, nil
}

func loadPeriod(in *costv1.Budget, zone *time.Location) (calendar.Period, error) {
	p := in.GetPeriod()
	out := calendar.Period{Kind: calendar.Kind(p.GetPeriodType()), Zone: zone}
	switch {
	case p.GetPeriodType() == costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_UNSPECIFIED:
		out.Kind = calendar.Infinite
	case out.Kind == calendar.Custom:
		if p.GetDurationSeconds() <= 0 {
			return out, fmt.Errorf("a custom period without a duration")
		}
		out.Every = time.Duration(p.GetDurationSeconds()) * time.Second
		out.Anchor = calendar.Always
		if p.GetPeriodStart() != nil {
			out.Anchor = p.GetPeriodStart().AsTime()
		} else if in.GetCreatedAt() != nil {
			out.Anchor = in.GetCreatedAt().AsTime()
		}
	case out.Kind < calendar.Hourly || out.Kind > calendar.Infinite:
		return out, fmt.Errorf("unknown period %d", p.GetPeriodType())
	}
	return out, nil
}

func loadThresholds(in []*costv1.NotificationThreshold) []int32 {
	var out []int32
	for _, t := range in {
		if bp := int32(t.GetThresholdPercent()*100 + 0.5); bp > 0 {
			out = append(out, bp)
		}
	}
	if len(out) == 0 {
		return DefaultThresholds
	}
	out = append(out, 10000) // that the limit is reached is always said
	slices.Sort(out)
	return slices.Compact(out)
}

func loadZone(name string, def *time.Location) (*time.Location, error) {
	if name == "" {
		return def, nil
	}
	if name == "Local" {
		return nil, fmt.Errorf("time zone %q is not of a place", name)
	}
	return time.LoadLocation(name)
}
