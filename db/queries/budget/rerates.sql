-- name: ChargesOf :many
-- The charges of a period that were priced by a list, with what they cost after
-- the corrections so far. At most lim. Found by time, then one index probe each,
-- however large the tables are.
select s.reservation_id, s.late, s.model, s.price_version, s.cost_nano, s.input_tokens, s.cached_tokens, s.cache_write_tokens,
    s.output_tokens, s.reasoning_tokens, s.llm_calls, s.created_at,
    r.created_at as priced_at, coalesce(c.new_nano, s.cost_nano)::bigint as current_nano, coalesce(c.price_version, s.price_version)::text as current_version, coalesce(c.rerate_id = @rerate_id::uuid, false)::boolean as corrected
from fulcrum.settlements s
cross join lateral (
    select x.created_at
    from fulcrum.reservations x
    where x.tenant_id = @tenant_id and x.id = s.reservation_id
    offset 0) r
left join lateral (
    select x.new_nano, x.rerate_id, x.price_version
    from fulcrum.charge_corrections x
    where x.tenant_id = @tenant_id and x.reservation_id = s.reservation_id
    order by x.number desc
    limit 1) c on true
where s.tenant_id = @tenant_id and s.created_at >= @from_time and s.created_at < @until_time and s.kind = 'settled'
  and (@model::text = '' or s.model = @model)
order by s.created_at, s.reservation_id
limit @lim;

-- name: FindCorrections :many
select c.tenant_id, c.reservation_id, c.number, c.rerate_id, c.old_nano, c.new_nano, c.price_version
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id) k
cross join lateral (
    select x.tenant_id, x.reservation_id, x.number, x.rerate_id, x.old_nano, x.new_nano, x.price_version
    from fulcrum.charge_corrections x
    where x.tenant_id = k.tenant_id and x.reservation_id = k.id
    order by x.number
    offset 0) c;

-- name: InsertCorrections :exec
insert into fulcrum.charge_corrections (tenant_id, reservation_id, number, rerate_id, old_nano, new_nano, price_version, created_at)
select unnest(@tenant_ids::uuid[]), unnest(@reservation_ids::uuid[]), unnest(@numbers::integer[]), unnest(@rerate_ids::uuid[]),
    unnest(@old_nano::bigint[]), unnest(@new_nano::bigint[]), unnest(@price_versions::text[]), @created_at::timestamptz;

-- name: CorrectSpend :one
-- Adds to the rows that the charges were added to: those of the hour in which each
-- was made, by whatever time zone the tenant had then. The rows are locked in key
-- order, as AddSpend does. Returns how many charges have no such row.
with d as (
    select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@charged_at::timestamptz[]) as charged_at, unnest(@workflow_ids::text[]) as workflow_id,
        unnest(@teams::text[]) as team, unnest(@agent_ids::text[]) as agent_id, unnest(@api_key_ids::text[]) as api_key_id,
        unnest(@models::text[]) as model, unnest(@deltas::bigint[]) as delta
), sums as (
    select d.tenant_id, h.hour, d.workflow_id, d.team, d.agent_id, d.api_key_id, d.model, sum(d.delta)::bigint as delta, count(*) as n
    from d
    cross join lateral (
        select x.hour from fulcrum.spend_rollups x
        where x.tenant_id = d.tenant_id and x.hour <= d.charged_at and x.hour > d.charged_at - interval '1 hour'
          and x.workflow_id = d.workflow_id and x.team = d.team and x.agent_id = d.agent_id and x.api_key_id = d.api_key_id and x.model = d.model
        order by x.hour desc
        limit 1) h
    group by 1, 2, 3, 4, 5, 6, 7
), locked as (
    select t.tenant_id, t.hour, t.workflow_id, t.team, t.agent_id, t.api_key_id, t.model, s.delta, s.n
    from fulcrum.spend_rollups t
    join sums s on s.tenant_id = t.tenant_id and s.hour = t.hour and s.workflow_id = t.workflow_id and s.team = t.team
        and s.agent_id = t.agent_id and s.api_key_id = t.api_key_id and s.model = t.model
    order by t.tenant_id, t.hour, t.workflow_id, t.team, t.agent_id, t.api_key_id, t.model
    for update of t
), changed as (
    update fulcrum.spend_rollups t set cost_nano = t.cost_nano + l.delta
    from locked l
    where t.tenant_id = l.tenant_id and t.hour = l.hour and t.workflow_id = l.workflow_id and t.team = l.team
      and t.agent_id = l.agent_id and t.api_key_id = l.api_key_id and t.model = l.model
    returning l.n
)
select ((select count(*) from d) - (select coalesce(sum(c.n), 0) from changed c))::bigint as missing;

-- name: CorrectEnvelopeCosts :one
with d as (
    select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@envelope_ids::text[]) as envelope_id, unnest(@models::text[]) as model,
        unnest(@deltas::bigint[]) as delta
), sums as (
    select d.tenant_id, d.envelope_id, d.model, sum(d.delta)::bigint as delta, count(*) as n from d group by 1, 2, 3
), locked as (
    select t.tenant_id, t.envelope_id, t.model, s.delta, s.n
    from fulcrum.envelope_costs t
    join sums s on s.tenant_id = t.tenant_id and s.envelope_id = t.envelope_id and s.model = t.model
    order by t.tenant_id, t.envelope_id, t.model
    for update of t
), changed as (
    update fulcrum.envelope_costs t set cost_nano = t.cost_nano + l.delta
    from locked l
    where t.tenant_id = l.tenant_id and t.envelope_id = l.envelope_id and t.model = l.model
    returning l.n
)
select ((select count(*) from d) - (select coalesce(sum(c.n), 0) from changed c))::bigint as missing;

-- name: BeginRerate :execrows
insert into fulcrum.price_rerates (tenant_id, id, idempotency_key, request_hash, created_by)
values (@tenant_id, @id, @idempotency_key, @request_hash, @created_by)
on conflict (tenant_id, idempotency_key) do nothing;

-- name: RerateByKey :one
select id, request_hash, report, created_by, created_at from fulcrum.price_rerates
where tenant_id = @tenant_id and idempotency_key = @idempotency_key;

-- name: FinishRerate :execrows
update fulcrum.price_rerates set finished_at = now(), report = @report
where tenant_id = @tenant_id and id = @id and finished_at is null;

-- name: Rerate :one
select id, report, created_at from fulcrum.price_rerates
where tenant_id = @tenant_id and id = @id and finished_at is not null;

-- name: Rerates :many
-- One page of those that are finished, latest first.
select id, report, created_at from fulcrum.price_rerates
where tenant_id = @tenant_id and id < @before_id and finished_at is not null
order by id desc
limit @lim;

-- name: CorrectedByModel :many
select s.model, count(*)::bigint as charges, sum(c.old_nano)::bigint as old_nano, sum(c.new_nano)::bigint as new_nano
from fulcrum.charge_corrections c
cross join lateral (
    select x.model
    from fulcrum.settlements x
    where x.tenant_id = @tenant_id and x.reservation_id = c.reservation_id and x.kind = 'settled'
    offset 0) s
where c.tenant_id = @tenant_id and c.rerate_id = @rerate_id
group by s.model
order by s.model;

-- name: CorrectedByBudget :many
select p.budget_id::text as budget_id, s.model, count(*)::bigint as charges, sum(c.old_nano)::bigint as old_nano, sum(c.new_nano)::bigint as new_nano
from fulcrum.charge_corrections c
cross join lateral (
    select x.model
    from fulcrum.settlements x
    where x.tenant_id = @tenant_id and x.reservation_id = c.reservation_id and x.kind = 'settled'
    offset 0) s
cross join lateral (
    select x.budget_id
    from fulcrum.reservation_parts x
    where x.tenant_id = @tenant_id and x.reservation_id = c.reservation_id
    offset 0) p
where c.tenant_id = @tenant_id and c.rerate_id = @rerate_id
group by p.budget_id, s.model
order by p.budget_id, s.model;

-- name: PartsOfCharges :many
select p.reservation_id, p.budget_id::text as budget_id
from fulcrum.reservation_parts p
where p.tenant_id = @tenant_id and p.reservation_id = any(@ids::uuid[]);
