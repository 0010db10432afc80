-- name: FindApiKey :many
-- At most one row, of whichever tenant the key belongs to.
select f.tenant_id::uuid as tenant_id, f.key_id::text as key_id, f.hash::bytea as hash, f.pepper_version::smallint as pepper_version,
       f.scopes::text[] as scopes, f.roles::text[] as roles, f.agent_id::text as agent_id, f.team::text as team, f.user_id::text as user_id,
       coalesce(extract(epoch from f.expires_at - now()), 0)::double precision as expires_in_seconds,
       (f.expires_at is not null)::boolean as expires,
       (f.revoked_at is not null)::boolean as revoked,
       f.tenant_status::text as tenant_status
  from fulcrum.find_api_key(@key_id::text) as f (tenant_id, key_id, hash, pepper_version, scopes, roles, agent_id, team, user_id,
       expires_at, revoked_at, tenant_status);

-- name: TouchApiKey :exec
select fulcrum.touch_api_key(@key_id::text);

-- name: TenantSettings :one
select coalesce(fulcrum.tenant_settings(@id::uuid), '{}')::jsonb as settings;
