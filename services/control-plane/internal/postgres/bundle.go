package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

// kind is what a bundle holds. The values are the kinds of its CONFIG events.
type kind string

const (
	policies kind = "policies"
	budgets  kind = "budgets"
	apiKeys  kind = "keys" // has events but no bundle
)

// What one bundle may weigh: each instance of the data plane holds it.
const (
	maxEntries     = 1000
	maxBundleBytes = 32 << 20
)

// advance counts up the versions of the bundles, in an order that all callers
// share, and by that locks them.
func advance(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, kinds []kind) (map[kind]int64, error) {
	versions := make(map[kind]int64, len(kinds))
	for _, k := range slices.Sorted(slices.Values(kinds)) {
		v, err := q.AdvanceBundle(ctx, controldb.AdvanceBundleParams{TenantID: tenant, Kind: string(k)})
		if err != nil {
			return nil, fmt.Errorf("advance bundle %s: %w", k, err)
		}
		versions[k] = v
	}
	return versions, nil
}

// publish writes the content of every advanced bundle, from the rows as this
// transaction leaves them.
func publish(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, versions map[kind]int64) error {
	if len(versions) == 0 {
		return nil
	}
	settings, err := settingsOf(ctx, q, tenant)
	if err != nil {
		return err
	}
	for k, version := range versions {
		content, err := content(ctx, q, k, tenant, version, settings)
		if err != nil {
			return fmt.Errorf("build bundle %s: %w", k, err)
		}
		n, err := q.WriteBundle(ctx, controldb.WriteBundleParams{TenantID: tenant, Kind: string(k), Version: version, Content: content})
		if err != nil {
			return fmt.Errorf("write bundle %s: %w", k, err)
		}
		if n != 1 {
			return fmt.Errorf("write bundle %s: version %d is not there", k, version)
		}
	}
	return nil
}

func content(ctx context.Context, q *controldb.Queries, k kind, tenant uuid.UUID, version int64, settings *configv1.TenantSettings) ([]byte, error) {
	build := policyBundle
	if k == budgets {
		build = budgetBundle
	}
	bundle, entries, err := build(ctx, q, tenant, version, settings)
	if err != nil {
		return nil, err
	}
	if entries > maxEntries {
		return nil, fault.New(fault.Exhausted, "a tenant has at most %d active %s", maxEntries, k).WithReason("TOO_MANY_ACTIVE")
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(bundle)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxBundleBytes {
		return nil, fault.New(fault.Exhausted, "the tenant's active %s have %d bytes together, more than %d", k, len(raw), maxBundleBytes).
			WithReason("BUNDLE_TOO_LARGE")
	}
	return raw, nil
}

func policyBundle(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, version int64, settings *configv1.TenantSettings) (proto.Message, int, error) {
	rows, err := q.ActivePolicies(ctx, tenant)
	if err != nil {
		return nil, 0, fmt.Errorf("read active policies: %w", err)
	}
	b := &configv1.PolicyBundle{TenantId: tenant.String(), Version: version, Settings: settings}
	if b.Tools, err = toolsOf(ctx, q, tenant); err != nil {
		return nil, 0, err
	}
	for _, row := range rows {
		p, err := policyOf(tenant, controldb.PolicyRow(row))
		if err != nil {
			return nil, 0, err
		}
		b.Policies = append(b.Policies, p)
	}
	if b.Shadows, err = liveShadows(ctx, q, tenant); err != nil {
		return nil, 0, err
	}
	return b, len(rows), nil
}

func budgetBundle(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, version int64, settings *configv1.TenantSettings) (proto.Message, int, error) {
	rows, err := q.LiveBudgets(ctx, tenant)
	if err != nil {
		return nil, 0, fmt.Errorf("read budgets: %w", err)
	}
	prices, err := q.Prices(ctx, tenant)
	if err != nil {
		return nil, 0, fmt.Errorf("read prices: %w", err)
	}
	wallets, err := walletsOf(ctx, q, tenant)
	if err != nil {
		return nil, 0, err
	}
	b := &configv1.BudgetBundle{TenantId: tenant.String(), Version: version, Settings: settings, Budgets: make([]*costv1.Budget, len(rows)), Wallets: wallets}
	for i, row := range rows {
		if b.Budgets[i], err = budgetOf(tenant, controldb.BudgetRow(row)); err != nil {
			return nil, 0, err
		}
	}
	if err := overridden(ctx, q, tenant, b.GetBudgets()...); err != nil {
		return nil, 0, err
	}
	for _, p := range prices {
		k, err := keptPrice(p)
		if err != nil {
			return nil, 0, err
		}
		b.Prices = append(b.Prices, published(k))
	}
	return b, len(rows), nil
}

func settingsOf(ctx context.Context, q *controldb.Queries, tenant uuid.UUID) (*configv1.TenantSettings, error) {
	raw, err := q.TenantSettings(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return readSettings(raw)
}

// readSettings skips what it does not know: a newer release may have written it.
func readSettings(raw []byte) (*configv1.TenantSettings, error) {
	s := &configv1.TenantSettings{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return s, nil
}

func writeSettings(s *configv1.TenantSettings) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write settings: %w", err)
	}
	return raw, nil
}
