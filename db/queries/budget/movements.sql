-- name: FindMovements :many
select m.tenant_id, m.idempotency_key, m.id, m.request_hash, m.kind, m.budget_id, m.reservation_id, m.cost_nano, m.balance_nano, m.reference, m.reason, m.actor, m.occurred_at
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@keys::text[]) as key) k
cross join lateral (
    select x.tenant_id, x.idempotency_key, x.id, x.request_hash, x.kind, x.budget_id, x.reservation_id, x.cost_nano, x.balance_nano, x.reference, x.reason, x.actor, x.occurred_at
    from fulcrum.ledger_movements x
    where x.tenant_id = k.tenant_id and x.idempotency_key = k.key
    offset 0) m;

-- name: InsertMovements :exec
insert into fulcrum.ledger_movements (tenant_id, idempotency_key, id, request_hash, kind, budget_id, reservation_id, cost_nano, balance_nano, reference, reason, actor, occurred_at)
select unnest(@tenant_ids::uuid[]), unnest(@keys::text[]), unnest(@ids::uuid[]), unnest(@request_hashes::bytea[]), unnest(@kinds::text[]),
    unnest(@budget_ids::text[]), nullif(unnest(@reservation_ids::uuid[]), '00000000-0000-0000-0000-000000000000'),
    unnest(@cost_nano::bigint[]), unnest(@balance_nano::bigint[]), unnest(@refs::text[]), unnest(@reasons::text[]), unnest(@actors::text[]),
    @occurred_at::timestamptz;
