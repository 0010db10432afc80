-- The lookups of a batch: each key by itself, so that no plan is ever anything
-- but one index probe a key.

-- name: FindReservations :many
select r.tenant_id, r.id, r.request_hash, r.cost_nano, r.total_tokens, r.input_tokens, r.output_tokens, r.llm_calls, r.tool_calls, r.seconds, r.price_version, r.team, r.agent_id, r.user_id, r.workflow_id, r.api_key_id, r.model, r.envelope_id, r.created_at, r.expires_at, r.budget_ids, r.window_starts, r.vias
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id) k
cross join lateral (
    select x.tenant_id, x.id, x.request_hash, x.cost_nano, x.total_tokens, x.input_tokens, x.output_tokens, x.llm_calls, x.tool_calls, x.seconds, x.price_version, x.team, x.agent_id, x.user_id, x.workflow_id, x.api_key_id, x.model, x.envelope_id, x.created_at, x.expires_at, x.budget_ids, x.window_starts, x.vias
    from fulcrum.reservations x
    where x.tenant_id = k.tenant_id and x.id = k.id
    offset 0) r;

-- name: FindParts :many
select r.tenant_id, r.id, r.budget_ids, r.window_starts, r.vias
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id) k
cross join lateral (
    select x.tenant_id, x.id, x.budget_ids, x.window_starts, x.vias
    from fulcrum.reservations x
    where x.tenant_id = k.tenant_id and x.id = k.id
    offset 0) r;

-- name: FindSettlements :many
select s.tenant_id, s.reservation_id, s.late, s.kind, s.idempotency_key, s.request_hash, s.cost_nano, s.total_tokens, s.input_tokens, s.output_tokens, s.llm_calls, s.tool_calls, s.seconds, s.model, s.price_version, s.created_at
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id) k
cross join lateral (
    select x.tenant_id, x.reservation_id, x.late, x.kind, x.idempotency_key, x.request_hash, x.cost_nano, x.total_tokens, x.input_tokens, x.output_tokens, x.llm_calls, x.tool_calls, x.seconds, x.model, x.price_version, x.created_at
    from fulcrum.settlements x
    where x.tenant_id = k.tenant_id and x.reservation_id = k.id
    offset 0) s;

-- name: InsertReservations :exec
-- Amounts of all rows follow one another, unit by unit; the parts of a row are
-- the elements from first to last: an array less is a function less to set up
-- for the batch. What is empty in all rows is an empty array. Without firsts, all
-- rows have all parts: cutting them out of the arrays was a fifth of the batch's rows.
-- One tenant, or one expiry, is that of all rows. Without posted, none is.
insert into fulcrum.reservations (tenant_id, id, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, price_version, team, agent_id, user_id, workflow_id, api_key_id, model, envelope_id, created_at, expires_at,
    posted, budget_ids, window_starts, vias)
select coalesce(k.tenant_id, (@tenant_ids::uuid[])[1]), k.id, k.request_hash, (@amounts::bigint[])[k.n * 7 + 1], (@amounts::bigint[])[k.n * 7 + 2], (@amounts::bigint[])[k.n * 7 + 3], (@amounts::bigint[])[k.n * 7 + 4], (@amounts::bigint[])[k.n * 7 + 5], (@amounts::bigint[])[k.n * 7 + 6], (@amounts::bigint[])[k.n * 7 + 7],
    coalesce(k.price_version, ''), coalesce(k.team, ''), coalesce(k.agent_id, ''), coalesce(k.user_id, ''), coalesce(k.workflow_id, ''), coalesce(k.api_key_id, ''), coalesce(k.model, ''), coalesce(k.envelope_id, ''),
    @created_at::timestamptz, coalesce(k.expires_at, (@expires_ats::timestamptz[])[1]), coalesce(k.posted, false),
    case when k.first is null then @budget_ids::text[] else (@budget_ids::text[])[k.first:k.last] end,
    case when k.first is null then @window_starts::timestamptz[] else (@window_starts::timestamptz[])[k.first:k.last] end,
    case when k.first is null then @vias::text[] else (@vias::text[])[k.first:k.last] end
from (select generate_series(0, cardinality(@ids::uuid[]) - 1) as n, unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id, unnest(@request_hashes::bytea[]) as request_hash,
        unnest(@price_versions::text[]) as price_version, unnest(@teams::text[]) as team, unnest(@agent_ids::text[]) as agent_id, unnest(@user_ids::text[]) as user_id,
        unnest(@workflow_ids::text[]) as workflow_id, unnest(@api_key_ids::text[]) as api_key_id, unnest(@models::text[]) as model, unnest(@envelope_ids::text[]) as envelope_id,
        unnest(@expires_ats::timestamptz[]) as expires_at, unnest(@posted::boolean[]) as posted, unnest(@firsts::integer[]) as first, unnest(@lasts::integer[]) as last) k;

-- name: InsertSettlements :exec
insert into fulcrum.settlements (tenant_id, reservation_id, late, kind, idempotency_key, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds,
    model, price_version, reason, failed, cached_tokens, cache_write_tokens, reasoning_tokens, created_at)
select k.tenant_id, k.reservation_id, k.late, k.kind, k.idempotency_key, k.request_hash, (@amounts::bigint[])[k.n * 7 + 1], (@amounts::bigint[])[k.n * 7 + 2], (@amounts::bigint[])[k.n * 7 + 3], (@amounts::bigint[])[k.n * 7 + 4], (@amounts::bigint[])[k.n * 7 + 5], (@amounts::bigint[])[k.n * 7 + 6], (@amounts::bigint[])[k.n * 7 + 7],
    k.model, k.price_version, k.reason, k.failed, k.cached_tokens, k.cache_write_tokens, k.reasoning_tokens, @created_at::timestamptz
from (select generate_series(0, cardinality(@reservation_ids::uuid[]) - 1) as n, unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@reservation_ids::uuid[]) as reservation_id,
        unnest(@late::boolean[]) as late, unnest(@kinds::text[]) as kind, unnest(@idempotency_keys::text[]) as idempotency_key, unnest(@request_hashes::bytea[]) as request_hash,
        unnest(@models::text[]) as model, unnest(@price_versions::text[]) as price_version, unnest(@reasons::text[]) as reason, unnest(@failed::boolean[]) as failed,
        unnest(@cached_tokens::bigint[]) as cached_tokens, unnest(@cache_write_tokens::bigint[]) as cache_write_tokens, unnest(@reasoning_tokens::bigint[]) as reasoning_tokens) k;

-- name: RenewReservations :execrows
update fulcrum.reservations r
set expires_at = v.expires_at
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id, unnest(@expires_ats::timestamptz[]) as expires_at) v
where r.tenant_id = v.tenant_id and r.id = v.id;

-- name: FindRenewals :many
select n.tenant_id, n.reservation_id, n.idempotency_key, n.ttl_ms, n.expires_at
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id, unnest(@keys::text[]) as key) k
cross join lateral (
    select x.tenant_id, x.reservation_id, x.idempotency_key, x.ttl_ms, x.expires_at
    from fulcrum.reservation_renewals x
    where x.tenant_id = k.tenant_id and x.reservation_id = k.id and x.idempotency_key = k.key
    offset 0) n;

-- name: InsertRenewals :exec
insert into fulcrum.reservation_renewals (tenant_id, reservation_id, idempotency_key, ttl_ms, expires_at, created_at)
select unnest(@tenant_ids::uuid[]), unnest(@reservation_ids::uuid[]), unnest(@keys::text[]), unnest(@ttls_ms::bigint[]),
    unnest(@expires_ats::timestamptz[]), @created_at::timestamptz;

-- name: DueHolds :many
-- Holds that ran out since the last sweep and have not ended.
select r.id
from fulcrum.reservations r
left join lateral (
    select true as ended
    from fulcrum.settlements x
    where x.tenant_id = @tenant_id and x.reservation_id = r.id
    limit 1) s on true
where r.tenant_id = @tenant_id and r.expires_at > 'epoch' and r.expires_at <= @until::timestamptz
  and r.expires_at > coalesce((select h.swept_until from fulcrum.hold_sweeps h where h.tenant_id = @tenant_id), '-infinity')
  and s.ended is null
order by r.expires_at
limit @lim;

-- name: MarkSwept :exec
insert into fulcrum.hold_sweeps as h (tenant_id, swept_until) values (@tenant_id, @swept_until)
on conflict (tenant_id) do update set swept_until = greatest(h.swept_until, excluded.swept_until);

-- name: TenantsWithDueHolds :many
select fulcrum.tenants_with_due_holds(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: Clock :one
-- The time of the transaction by the database, which every instance goes by.
select now()::timestamptz as now;
