-- name: AdvanceBundle :one
-- Counts the version up and by that locks the row: whoever advanced first
-- publishes first, and the next one sees all its rows.
insert into fulcrum.config_bundles as b (tenant_id, kind, version, content)
values (@tenant_id, @kind, 1, '')
on conflict (tenant_id, kind) do update set version = b.version + 1
returning version;

-- name: WriteBundle :execrows
update fulcrum.config_bundles
set content = @content, created_at = now()
where tenant_id = @tenant_id and kind = @kind and version = @version;

-- name: Bundle :one
select version, content, created_at
from fulcrum.config_bundles
where tenant_id = @tenant_id and kind = @kind;

-- name: TenantSettings :one
select coalesce(fulcrum.tenant_settings(@tenant_id::uuid), '{}')::jsonb as settings;
