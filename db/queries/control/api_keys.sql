-- name: InsertApiKey :one
-- expires_in is seconds from the database's now; null means never.
insert into fulcrum.api_keys (tenant_id, key_id, name, hash, pepper_version, scopes, roles, agent_id, team, user_id,
                              last4, created_by, expires_at)
values (@tenant_id, @key_id, @name, @hash, @pepper_version, @scopes, @roles, @agent_id, @team, @user_id,
        @last4, @created_by, now() + make_interval(secs => sqlc.narg(expires_in)::double precision))
returning created_at, expires_at;

-- name: CreatorKey :one
-- The key that asks for another key, held still until the new one is written.
select scopes, expires_at, (revoked_at is not null or coalesce(expires_at <= now(), false))::boolean as ended,
       coalesce(expires_at < now() + make_interval(secs => sqlc.narg(expires_in)::double precision), expires_at is not null)::boolean as outlived
from fulcrum.api_keys
where tenant_id = @tenant_id and key_id = @key_id
for share;

-- name: RevokeApiKey :one
-- No row: no such key, or revoked before.
update fulcrum.api_keys
set revoked_at = now(), revoked_by = @revoked_by::text
where tenant_id = @tenant_id and key_id = @key_id and revoked_at is null
returning name, scopes, roles, agent_id, team, user_id, last4, created_at, expires_at, last_used_at;

-- name: RevokeKeysOfAgent :many
update fulcrum.api_keys
set revoked_at = now(), revoked_by = @revoked_by::text
where tenant_id = @tenant_id and agent_id = @agent_id and revoked_at is null
returning key_id;

-- name: ApiKeys :many
-- One page of what is not revoked, newest first.
select key_id, name, scopes, last4, created_at, expires_at, last_used_at
from fulcrum.api_keys
where tenant_id = @tenant_id and revoked_at is null
  and (not @resumed::boolean or (created_at, key_id) < (@after_created_at::timestamptz, @after_key_id::text))
order by created_at desc, key_id desc
limit @lim;
