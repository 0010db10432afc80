-- name: Prices :many
-- Every price of every list, those that a later list replaced too: charges may be
-- priced again by an earlier one.
select model, input_per_million_nano, output_per_million_nano, cached_input_per_million_nano, cache_write_per_million_nano,
       reasoning_per_million_nano, per_call_nano, tiers, ended, effective_from, revision, version
from fulcrum.price_versions
where tenant_id = @tenant_id
order by model, effective_from, revision;

-- name: PricesOf :many
select model, input_per_million_nano, output_per_million_nano, cached_input_per_million_nano, cache_write_per_million_nano,
       reasoning_per_million_nano, per_call_nano, tiers, ended, effective_from, revision, version
from fulcrum.price_versions
where tenant_id = @tenant_id and revision = @revision
order by model, effective_from;

-- name: InsertPriceList :one
insert into fulcrum.price_lists (tenant_id, revision, version, note, prices, created_by)
values (@tenant_id, @revision, @version, @note, @prices, @created_by)
returning created_at;

-- name: InsertPrices :exec
insert into fulcrum.price_versions (tenant_id, id, model, input_per_million_nano, output_per_million_nano, cached_input_per_million_nano,
    cache_write_per_million_nano, reasoning_per_million_nano, per_call_nano, tiers, ended, effective_from, revision, version, created_by)
select @tenant_id, unnest(@ids::uuid[]), unnest(@models::text[]), unnest(@inputs::bigint[]), unnest(@outputs::bigint[]),
    unnest(@cached_inputs::bigint[]), unnest(@cache_writes::bigint[]), unnest(@reasonings::bigint[]), unnest(@per_calls::bigint[]),
    unnest(@tiers::text[])::jsonb, unnest(@ended::boolean[]), unnest(@effective_froms::timestamptz[]), @revision, @version, @created_by;

-- name: LatestPriceRevision :one
-- 0: the tenant has no list of its own yet.
select coalesce(max(revision), 0)::bigint as revision
from fulcrum.price_lists
where tenant_id = @tenant_id;

-- name: PriceList :one
select revision, version, note, prices, created_by, created_at
from fulcrum.price_lists
where tenant_id = @tenant_id and version = @version;

-- name: PriceLists :many
-- One page, latest first.
select revision, version, note, prices, created_by, created_at
from fulcrum.price_lists
where tenant_id = @tenant_id and revision < @before_revision
order by revision desc
limit @lim;

-- name: Now :one
select now()::timestamptz as now;
