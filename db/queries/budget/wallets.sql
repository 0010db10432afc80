-- name: WalletMovements :many
select m.tenant_id, m.idempotency_key, m.id, m.request_hash, m.kind, m.budget_id, m.reservation_id, m.cost_nano, m.balance_nano, m.reference, m.reason, m.actor, m.occurred_at
from fulcrum.ledger_movements m
where m.tenant_id = @tenant_id and m.budget_id = @budget_id and m.occurred_at >= @since::timestamptz and m.occurred_at < @until::timestamptz
order by m.occurred_at, m.id
limit @lim;

-- name: WalletDays :many
-- One row a day of what moved a wallet since a moment, next to what it is now:
-- one statement, so that the two fit. What came after until is of year 1.
select w.cost_nano_limit, w.cost_nano_spent, w.cost_nano_held,
    coalesce(e.day, '0001-01-01')::date as day, coalesce(e.credited, 0)::bigint as credited, coalesce(e.charged, 0)::bigint as charged
from fulcrum.budget_windows w
left join lateral (
    select case when x.occurred_at < @until::timestamptz then date_trunc('day', x.occurred_at at time zone 'UTC')::date end as day,
        sum(case when x.from_account = 'external' then x.cost_nano when x.to_account = 'external' then -x.cost_nano else 0 end) as credited,
        sum(case when x.to_account = 'spent' then x.cost_nano when x.from_account = 'spent' then -x.cost_nano else 0 end) as charged
    from fulcrum.ledger_posted x
    where x.tenant_id = @tenant_id and x.budget_id = @budget_id and x.window_start = w.window_start and x.occurred_at >= @since::timestamptz
    group by 1) e on true
where w.tenant_id = @tenant_id and w.budget_id = @budget_id
order by e.day nulls last;

-- name: InsertWalletKey :one
insert into fulcrum.wallet_keys (tenant_id, wallet_id, id, public_key, sealed_key, wrapped_data_key, kek_id, created_by)
values (@tenant_id, @wallet_id, @id, @public_key, @sealed_key, @wrapped_data_key, @kek_id, @created_by)
returning created_at;

-- name: WalletKeys :many
-- Newest first.
select wallet_id, id, public_key, sealed_key, wrapped_data_key, kek_id, created_at
from fulcrum.wallet_keys
where tenant_id = @tenant_id and wallet_id = @wallet_id
order by id desc
limit 100;

-- name: KeysToRewrap :many
select wallet_id, id, public_key, sealed_key, wrapped_data_key, kek_id, created_at
from fulcrum.wallet_keys
where tenant_id = @tenant_id and kek_id <> @kek_id
order by wallet_id, id
limit @lim;

-- name: RewrapKey :execrows
-- Unless somebody else has meanwhile.
update fulcrum.wallet_keys
set wrapped_data_key = @wrapped_data_key, kek_id = @kek_id
where tenant_id = @tenant_id and wallet_id = @wallet_id and id = @id and kek_id = @old_kek_id;

-- name: TenantsToRewrap :many
select fulcrum.tenants_with_wallet_keys(@kek_id::text, @after::uuid, @lim::integer)::uuid as tenant_id;
