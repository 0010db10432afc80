-- name: InsertWallet :one
insert into fulcrum.wallets (tenant_id, id, name, description, low_balance_nano, created_by)
values (@tenant_id, @id, @name, @description, @low_balance_nano::bigint[], @created_by)
returning revision, created_at, updated_at;

-- name: LockWallet :one
select id, revision, name, description, low_balance_nano, frozen, frozen_reason, created_at, updated_at
from fulcrum.wallets
where tenant_id = @tenant_id and id = @id
for update;

-- name: UpdateWallet :one
update fulcrum.wallets
set name = @name, description = @description, low_balance_nano = @low_balance_nano::bigint[], frozen = @frozen, frozen_reason = @frozen_reason,
    revision = revision + 1, updated_at = now()
where tenant_id = @tenant_id and id = @id
returning revision, updated_at;

-- name: Wallets :many
select id, revision, name, description, low_balance_nano, frozen, frozen_reason, created_at, updated_at
from fulcrum.wallets
where tenant_id = @tenant_id
order by id;

-- name: WalletExists :one
select exists (select from fulcrum.wallets where tenant_id = @tenant_id and id = @id)::boolean as there;
