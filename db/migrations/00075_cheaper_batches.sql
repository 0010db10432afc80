-- +goose Up
-- What a batch of the ledger pays however small it is. The two functions below
-- are asked by the policies of every table that a statement touches: without a
-- setting of their own they cost a third. Every name in them is qualified, so no
-- search path changes what they mean.
-- +goose StatementBegin
create or replace function fulcrum.current_tenant() returns uuid
    language plpgsql stable parallel safe
as $$
declare
    tenant pg_catalog.text := pg_catalog.current_setting('fulcrum.current_tenant', true);
begin
    -- Once set and undone it is '', not NULL.
    if tenant is null or tenant operator(pg_catalog.=) '' then
        raise exception 'fulcrum: no tenant in this transaction'
            using errcode = 'FT001', hint = 'enter through db.WithTenant, db.Read or db.One';
    end if;
    return tenant::pg_catalog.uuid;
end
$$;

create or replace function fulcrum.current_tenants() returns uuid[]
    language plpgsql stable parallel safe
as $$
declare
    tenants pg_catalog.text := pg_catalog.current_setting('fulcrum.current_tenants', true);
    tenant  pg_catalog.text;
begin
    if tenants operator(pg_catalog.<>) '' then
        return tenants::pg_catalog.uuid[];
    end if;
    tenant := pg_catalog.current_setting('fulcrum.current_tenant', true);
    if tenant operator(pg_catalog.<>) '' then
        return array[tenant::pg_catalog.uuid];
    end if;
    raise exception 'fulcrum: no tenant in this transaction'
        using errcode = 'FT001', hint = 'enter through db.WithTenants or db.WithTenant';
end
$$;

-- Fails a batch that was decided from memory if time or configuration are not
-- what it went by: now() has to be in [not_before, not_after) and close to
-- believed, and no tenant's bundle newer than the version given. Returns now().
-- It looks at bundles itself, of the transaction's own tenants only: asking the
-- function that others ask doubled its cost.
create or replace function fulcrum.ledger_guard(not_before timestamptz, not_after timestamptz, believed timestamptz, tenants uuid[], versions bigint[])
    returns timestamptz
    language plpgsql stable security definer
    set search_path = pg_catalog
as $$
begin
    if now() < not_before or now() >= not_after or believed < now() - interval '1 s' or believed > now() + interval '1 s' then
        raise exception 'fulcrum: time moved on' using errcode = 'FT021';
    end if;
    if exists (
        select from unnest(fulcrum.current_tenants()) as k(id)
        cross join lateral (
            select c.version from fulcrum.config_bundles c
            where c.tenant_id = k.id and c.kind = 'budgets' offset 0) b
        where b.version > coalesce(versions[array_position(tenants, k.id)], 0)
    ) then
        raise exception 'fulcrum: configuration moved on' using errcode = 'FT022';
    end if;
    return now();
end
$$;
-- +goose StatementEnd
alter function fulcrum.ledger_guard(timestamptz, timestamptz, timestamptz, uuid[], bigint[]) owner to fulcrum_scout;

-- +goose Down
-- +goose StatementBegin
create or replace function fulcrum.current_tenant() returns uuid
    language plpgsql stable parallel safe
    set search_path = pg_catalog
as $$
declare
    tenant text := current_setting('fulcrum.current_tenant', true);
begin
    -- Once set and undone it is '', not NULL.
    if tenant is null or tenant = '' then
        raise exception 'fulcrum: no tenant in this transaction'
            using errcode = 'FT001', hint = 'enter through db.WithTenant, db.Read or db.One';
    end if;
    return tenant::uuid;
end
$$;

create or replace function fulcrum.current_tenants() returns uuid[]
    language plpgsql stable parallel safe
    set search_path = pg_catalog
as $$
declare
    tenants text := current_setting('fulcrum.current_tenants', true);
    tenant  text := current_setting('fulcrum.current_tenant', true);
begin
    if tenants <> '' then
        return tenants::uuid[];
    end if;
    if tenant <> '' then
        return array[tenant::uuid];
    end if;
    raise exception 'fulcrum: no tenant in this transaction'
        using errcode = 'FT001', hint = 'enter through db.WithTenants or db.WithTenant';
end
$$;

create or replace function fulcrum.ledger_guard(not_before timestamptz, not_after timestamptz, believed timestamptz, tenants uuid[], versions bigint[])
    returns timestamptz
    language plpgsql stable
    set search_path = pg_catalog
as $$
begin
    if now() < not_before or now() >= not_after or abs(extract(epoch from now() - believed)) > 1 then
        raise exception 'fulcrum: time moved on' using errcode = 'FT021';
    end if;
    if exists (
        select from fulcrum.budget_bundle_versions() b
        where b.version > coalesce(versions[array_position(tenants, b.tenant_id)], 0)
    ) then
        raise exception 'fulcrum: configuration moved on' using errcode = 'FT022';
    end if;
    return now();
end
$$;
-- +goose StatementEnd
