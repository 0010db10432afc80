-- +goose Up
-- The control plane connects as fulcrum_app like everybody; these functions are
-- its only way to the tenants. They run as fulcrum_admin, who may not log in.

-- +goose StatementBegin
create function fulcrum.create_tenant(id uuid, name text, settings jsonb, idempotency_key text)
    returns table (tenant_id uuid, tenant_name text, status text, tenant_settings jsonb, created_at timestamptz, created boolean)
    language plpgsql security definer
    set search_path = pg_catalog
as $$
#variable_conflict use_column
begin
    return query
        insert into fulcrum.tenants as t (id, name, settings, idempotency_key)
        values (create_tenant.id, create_tenant.name, coalesce(create_tenant.settings, '{}'), nullif(create_tenant.idempotency_key, ''))
        on conflict (idempotency_key) do nothing
        returning t.id, t.name, t.status, t.settings, t.created_at, true;
    if not found then
        return query
            select t.id, t.name, t.status, t.settings, t.created_at, false
            from fulcrum.tenants t where t.idempotency_key = create_tenant.idempotency_key;
    end if;
end
$$;

create function fulcrum.list_tenants(after uuid, lim integer)
    returns table (tenant_id uuid, tenant_name text, status text, tenant_settings jsonb, created_at timestamptz)
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select t.id, t.name, t.status, t.settings, t.created_at
    from fulcrum.tenants t where t.id > after order by t.id limit lim
$$;

-- No row: no such tenant.
create function fulcrum.tenant(id uuid)
    returns table (tenant_id uuid, tenant_name text, status text, tenant_settings jsonb, created_at timestamptz)
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select t.id, t.name, t.status, t.settings, t.created_at
    from fulcrum.tenants t where t.id = tenant.id
$$;

create function fulcrum.tenant_settings(id uuid) returns jsonb
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select t.settings from fulcrum.tenants t where t.id = tenant_settings.id
$$;

-- No row: no such tenant.
create function fulcrum.update_tenant_settings(id uuid, settings jsonb)
    returns table (tenant_id uuid, tenant_name text, status text, tenant_settings jsonb, created_at timestamptz)
    language sql security definer
    set search_path = pg_catalog
as $$
    update fulcrum.tenants t set settings = update_tenant_settings.settings, updated_at = now()
    where t.id = update_tenant_settings.id
    returning t.id, t.name, t.status, t.settings, t.created_at
$$;

-- False: no such tenant.
create function fulcrum.set_tenant_status(id uuid, status text) returns boolean
    language sql security definer
    set search_path = pg_catalog
as $$
    with changed as (
        update fulcrum.tenants t set status = set_tenant_status.status, updated_at = now()
        where t.id = set_tenant_status.id
        returning t.id
    )
    select exists (select from changed)
$$;
-- +goose StatementEnd

alter function fulcrum.create_tenant(uuid, text, jsonb, text) owner to fulcrum_admin;
alter function fulcrum.list_tenants(uuid, integer) owner to fulcrum_admin;
alter function fulcrum.tenant(uuid) owner to fulcrum_admin;
alter function fulcrum.tenant_settings(uuid) owner to fulcrum_admin;
alter function fulcrum.update_tenant_settings(uuid, jsonb) owner to fulcrum_admin;
alter function fulcrum.set_tenant_status(uuid, text) owner to fulcrum_admin;
grant execute on function
    fulcrum.create_tenant(uuid, text, jsonb, text),
    fulcrum.list_tenants(uuid, integer),
    fulcrum.tenant(uuid),
    fulcrum.tenant_settings(uuid),
    fulcrum.update_tenant_settings(uuid, jsonb),
    fulcrum.set_tenant_status(uuid, text)
to fulcrum_app;

-- +goose Down
drop function fulcrum.set_tenant_status(uuid, text);
drop function fulcrum.update_tenant_settings(uuid, jsonb);
drop function fulcrum.tenant_settings(uuid);
drop function fulcrum.tenant(uuid);
drop function fulcrum.list_tenants(uuid, integer);
drop function fulcrum.create_tenant(uuid, text, jsonb, text);
