-- name: CreateTenant :one
select tenant_id::uuid as tenant_id, tenant_name::text as tenant_name, status::text as status,
       tenant_settings::jsonb as tenant_settings, created_at::timestamptz as created_at, created::boolean as created
from fulcrum.create_tenant(@tenant_id::uuid, @name::text, @settings::jsonb, @idempotency_key::text);

-- name: Tenant :one
select tenant_id::uuid as tenant_id, tenant_name::text as tenant_name, status::text as status,
       tenant_settings::jsonb as tenant_settings, created_at::timestamptz as created_at
from fulcrum.tenant(@tenant_id::uuid);

-- name: Tenants :many
select tenant_id::uuid as tenant_id, tenant_name::text as tenant_name, status::text as status,
       tenant_settings::jsonb as tenant_settings, created_at::timestamptz as created_at
from fulcrum.list_tenants(@after::uuid, @lim::integer);

-- name: UpdateTenantSettings :one
select tenant_id::uuid as tenant_id, tenant_name::text as tenant_name, status::text as status,
       tenant_settings::jsonb as tenant_settings, created_at::timestamptz as created_at
from fulcrum.update_tenant_settings(@tenant_id::uuid, @settings::jsonb);
