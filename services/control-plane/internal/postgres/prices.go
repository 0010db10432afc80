package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/price"
)

// ChangePrices implements price.Store. The bundle's lock makes changes of one
// tenant's lists queue, so that revisions have no gaps and each is compared with
// all before it.
func (s *Store) ChangePrices(ctx context.Context, by identity.Principal, c price.Change, once change.Once) (*pricingv1.ImportPricesResponse, error) {
	answer := &pricingv1.ImportPricesResponse{}
	if c.DryRun {
		once = change.Once{} // nothing to remember
	}
	_, err := s.create(ctx, by, by.Tenant, once, []kind{budgets}, answer, func(ctx context.Context, q *controldb.Queries) (told, error) {
		answer.Reset()
		latest, err := q.LatestPriceRevision(ctx, by.Tenant)
		if err != nil {
			return told{}, fmt.Errorf("read the latest price list: %w", err)
		}
		if c.Etag != "" && c.Etag != change.Etag(latest) {
			return told{}, change.Stale("price list")
		}
		now, err := q.Now(ctx)
		if err != nil {
			return told{}, fmt.Errorf("read the time: %w", err)
		}
		rows, err := q.Prices(ctx, by.Tenant)
		if err != nil {
			return told{}, fmt.Errorf("read prices: %w", err)
		}
		kept, err := keptOf(rows)
		if err != nil {
			return told{}, err
		}
		plan, err := price.Planned(kept, c, now.UTC())
		if err != nil {
			return told{}, err
		}
		version := "tenant-" + strconv.FormatInt(latest+1, 10)
		answer.Etag, answer.Unchanged = change.Etag(latest), plan.Unchanged
		for i, e := range plan.Add {
			one := &pricingv1.PriceChange{Price: pricelist.Wire(e)}
			one.Price.Version = version
			if was := plan.Before[i]; was != nil && !was.Ended {
				one.Before = wire(*was)
			}
			answer.Changes = append(answer.Changes, one)
		}
		if c.DryRun || len(plan.Add) == 0 {
			return told{}, errUnchanged
		}
		answer.Version, err = s.addList(ctx, q, by, latest+1, version, c.Note, plan.Add)
		if err != nil {
			return told{}, err
		}
		answer.Etag = change.Etag(latest + 1)
		what := change.Fact{Type: "prices_imported", Action: "price.import", Resource: "price_list:" + version, After: answer}
		if c.End != "" {
			what.Type, what.Action = "price_ended", "price.end"
		}
		return fact(what), nil
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (s *Store) addList(ctx context.Context, q *controldb.Queries, by identity.Principal, revision int64, version, note string, add []pricelist.Entry) (*pricingv1.PriceVersion, error) {
	made, err := q.InsertPriceList(ctx, controldb.InsertPriceListParams{
		TenantID: by.Tenant, Revision: revision, Version: version, Note: note, Prices: int32(len(add)), CreatedBy: by.Actor(),
	})
	if err != nil {
		return nil, fmt.Errorf("insert price list: %w", err)
	}
	arg := controldb.InsertPricesParams{TenantID: by.Tenant, Revision: revision, Version: version, CreatedBy: by.Actor()}
	for _, e := range add {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("new price id: %w", err)
		}
		tiers, err := json.Marshal(tierRows(e.Tiers))
		if err != nil {
			return nil, fmt.Errorf("write tiers: %w", err)
		}
		arg.Ids, arg.Models, arg.EffectiveFroms = append(arg.Ids, id), append(arg.Models, e.Model), append(arg.EffectiveFroms, e.From)
		arg.Inputs, arg.Outputs = append(arg.Inputs, int64(e.Input)), append(arg.Outputs, int64(e.Output))
		arg.CachedInputs, arg.CacheWrites = append(arg.CachedInputs, int64(e.CachedInput)), append(arg.CacheWrites, int64(e.CacheWrite))
		arg.Reasonings, arg.PerCalls = append(arg.Reasonings, int64(e.Reasoning)), append(arg.PerCalls, int64(e.PerCall))
		arg.Tiers, arg.Ended = append(arg.Tiers, string(tiers)), append(arg.Ended, e.Ended)
	}
	if err := q.InsertPrices(ctx, arg); err != nil {
		return nil, fmt.Errorf("insert prices: %w", err)
	}
	return &pricingv1.PriceVersion{
		Version: version, CreatedAt: timestamppb.New(made), CreatedBy: by.Actor(), Note: note, Prices: int32(len(add)),
	}, nil
}

// PriceLists implements price.Store.
func (s *Store) PriceLists(ctx context.Context, tenant uuid.UUID, before int64, limit int) (lists []price.Numbered, latest int64, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		if latest, err = q.LatestPriceRevision(ctx, tenant); err != nil {
			return err
		}
		rows, err := q.PriceLists(ctx, controldb.PriceListsParams{TenantID: tenant, BeforeRevision: before, Lim: int32(limit)})
		for _, r := range rows {
			lists = append(lists, price.Numbered{PriceVersion: versionOf(controldb.PriceListRow(r)), Revision: r.Revision})
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read price lists: %w", err)
	}
	return lists, latest, nil
}

// PriceList implements price.Store.
func (s *Store) PriceList(ctx context.Context, tenant uuid.UUID, version string) (list *pricingv1.PriceVersion, kept []price.Kept, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		row, err := q.PriceList(ctx, controldb.PriceListParams{TenantID: tenant, Version: version})
		if err != nil {
			return missing(err, "price list", version)
		}
		list = versionOf(row)
		rows, err := q.PricesOf(ctx, controldb.PricesOfParams{TenantID: tenant, Revision: row.Revision})
		if err != nil {
			return fmt.Errorf("read prices: %w", err)
		}
		for _, r := range rows {
			k, err := keptPrice(controldb.PricesRow(r))
			if err != nil {
				return err
			}
			kept = append(kept, k)
		}
		return nil
	})
	return list, kept, err
}

func versionOf(r controldb.PriceListRow) *pricingv1.PriceVersion {
	return &pricingv1.PriceVersion{
		Version: r.Version, CreatedAt: timestamppb.New(r.CreatedAt), CreatedBy: r.CreatedBy, Note: r.Note, Prices: r.Prices,
	}
}

func keptOf(rows []controldb.PricesRow) ([]price.Kept, error) {
	kept := make([]price.Kept, len(rows))
	for i, r := range rows {
		var err error
		if kept[i], err = keptPrice(r); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

func keptPrice(r controldb.PricesRow) (price.Kept, error) {
	k := price.Kept{Revision: r.Revision, Version: r.Version, Entry: pricelist.Entry{
		Model: r.Model, From: r.EffectiveFrom.UTC(), Ended: r.Ended,
		Rates: pricelist.Rates{
			Input: money.Nano(r.InputPerMillionNano), Output: money.Nano(r.OutputPerMillionNano), CachedInput: money.Nano(r.CachedInputPerMillionNano),
			CacheWrite: money.Nano(r.CacheWritePerMillionNano), Reasoning: money.Nano(r.ReasoningPerMillionNano), PerCall: money.Nano(r.PerCallNano),
		},
	}}
	var tiers []tierRow
	if err := json.Unmarshal(r.Tiers, &tiers); err != nil {
		return k, fmt.Errorf("read tiers of model %s: %w", r.Model, err)
	}
	for _, t := range tiers {
		k.Tiers = append(k.Tiers, pricelist.Tier{Above: t.Above, Rates: pricelist.Rates{
			Input: t.Input, Output: t.Output, CachedInput: t.CachedInput, CacheWrite: t.CacheWrite, Reasoning: t.Reasoning, PerCall: t.PerCall,
		}})
	}
	return k, nil
}

// tierRow is a tier as the column tiers has it.
type tierRow struct {
	Above       int64      `json:"above_input_tokens"`
	Input       money.Nano `json:"input_nano,omitempty"`
	Output      money.Nano `json:"output_nano,omitempty"`
	CachedInput money.Nano `json:"cached_input_nano,omitempty"`
	CacheWrite  money.Nano `json:"cache_write_nano,omitempty"`
	Reasoning   money.Nano `json:"reasoning_nano,omitempty"`
	PerCall     money.Nano `json:"per_call_nano,omitempty"`
}

func tierRows(tiers []pricelist.Tier) []tierRow {
	rows := make([]tierRow, len(tiers))
	for i, t := range tiers {
		rows[i] = tierRow{t.Above, t.Input, t.Output, t.CachedInput, t.CacheWrite, t.Reasoning, t.PerCall}
	}
	return rows
}

func wire(k price.Kept) *pricingv1.Price {
	p := pricelist.Wire(k.Entry)
	p.Version = k.Version
	return p
}

// published is a price as the data plane loads it.
func published(k price.Kept) *configv1.Price {
	p := &configv1.Price{
		Model: k.Model, Version: k.Version, Revision: k.Revision, EffectiveFrom: timestamppb.New(k.From), Ended: k.Ended,
		InputNanoPerMillion: int64(k.Input), OutputNanoPerMillion: int64(k.Output), CachedInputNanoPerMillion: int64(k.CachedInput),
		CacheWriteNanoPerMillion: int64(k.CacheWrite), ReasoningNanoPerMillion: int64(k.Reasoning), PerCallNano: int64(k.PerCall),
	}
	for _, t := range k.Tiers {
		p.Tiers = append(p.Tiers, &configv1.PriceTier{
			AboveInputTokens: t.Above, InputNanoPerMillion: int64(t.Input), OutputNanoPerMillion: int64(t.Output),
			CachedInputNanoPerMillion: int64(t.CachedInput), CacheWriteNanoPerMillion: int64(t.CacheWrite),
			ReasoningNanoPerMillion: int64(t.Reasoning), PerCallNano: int64(t.PerCall),
		})
	}
	return p
}
