-- +goose Up
-- Runs as fulcrum_owner. The roles themselves are in roles.sql: they belong to
-- the cluster, outlive this database and may need a stronger role to create.

-- +goose StatementBegin
do $$
declare
    missing text;
begin
    select string_agg(name, ', ') into missing
    from unnest(array['fulcrum_owner', 'fulcrum_scout', 'fulcrum_admin', 'fulcrum_app',
                      'fulcrum_retention', 'fulcrum_backup', 'metrics_owner']) as name
    where not exists (select from pg_catalog.pg_roles where rolname = name);
    if missing is not null then
        raise exception 'roles missing: %', missing
            using hint = 'run the bootstrap once as a superuser: fulcrum bootstrap';
    end if;
    if current_user <> 'fulcrum_owner' then
        raise exception 'migrations run as %, not as fulcrum_owner', current_user;
    end if;
end
$$;
-- +goose StatementEnd

create schema if not exists fulcrum;
create schema if not exists metrics;

-- Nothing is callable or visible unless a migration says so.
alter default privileges revoke execute on functions from public;
grant usage on schema fulcrum to fulcrum_app, fulcrum_retention, fulcrum_backup, fulcrum_scout, fulcrum_admin, metrics_owner;
grant usage on schema metrics to fulcrum_app, fulcrum_retention, fulcrum_backup;
-- Changing a function's owner asks that the new owner may create there.
grant create on schema fulcrum to fulcrum_scout, fulcrum_admin;
grant create, usage on schema metrics to metrics_owner;
alter default privileges in schema fulcrum grant select on tables to fulcrum_backup;
alter default privileges in schema metrics grant select on tables to fulcrum_backup;
alter default privileges in schema fulcrum grant select on sequences to fulcrum_backup;
grant select on fulcrum.goose_db_version to fulcrum_app, fulcrum_backup;
grant select on all sequences in schema fulcrum to fulcrum_backup;

-- +goose StatementBegin
create function fulcrum.current_tenant() returns uuid
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

create function fulcrum.current_tenants() returns uuid[]
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

create function fulcrum.protect_by(target regclass, predicate text) returns void
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if not exists (
        select from pg_attribute
        where attrelid = target and attname = 'tenant_id' and attnotnull and atttypid = 'uuid'::regtype and not attisdropped
    ) then
        raise exception '% has no column tenant_id uuid not null', target;
    end if;
    execute format('alter table %s enable row level security', target);
    execute format('alter table %s force row level security', target);
    execute format('create policy tenant_select on %s for select to fulcrum_app using (%s)', target, predicate);
    execute format('create policy tenant_insert on %s for insert to fulcrum_app with check (%s)', target, predicate);
    execute format('create policy tenant_update on %s for update to fulcrum_app using (%s) with check (%s)', target, predicate, predicate);
    execute format('create policy tenant_delete on %s for delete to fulcrum_app using (%s)', target, predicate);
end
$$;

create function fulcrum.protect(target regclass) returns void
    language sql
    set search_path = pg_catalog
as $$
    -- The sub-select makes the call one InitPlan instead of one call a row.
    select fulcrum.protect_by(target, 'tenant_id = (select fulcrum.current_tenant())')
$$;

create function fulcrum.protect_list(target regclass) returns void
    language sql
    set search_path = pg_catalog
as $$
    select fulcrum.protect_by(target, 'tenant_id = any ((select fulcrum.current_tenants())::uuid[])')
$$;

-- ensure_partitions creates the monthly partitions of a table partitioned by
-- range of one timestamptz column: the months from behind before now to ahead
-- after it, and a default, so that no row is ever refused. Rows that already
-- fell into the default move. Safe to call at any time, by anybody at once.
create function fulcrum.ensure_partitions(parent regclass, behind integer default 1, ahead integer default 2) returns integer
    language plpgsql security definer
    set search_path = pg_catalog
    set lock_timeout = '1s'
    set timezone = 'UTC'
as $$
declare
    space    text;
    base     text;
    keycol   text;
    keeper   text;
    cols     text;
    part     text;
    fallback text;
    month    timestamptz;
    made     integer := 0;
begin
    select n.nspname, c.relname, a.attname, pg_get_userbyid(c.relowner) into space, base, keycol, keeper
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_partitioned_table p on p.partrelid = c.oid
    join pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
    where c.oid = parent and n.nspname in ('fulcrum', 'metrics')
      and p.partstrat = 'r' and p.partnatts = 1 and a.atttypid = 'timestamptz'::regtype;
    if not found then
        raise exception '% is not partitioned by range of one timestamptz in fulcrum or metrics', parent;
    end if;
    if behind not between 0 and 24 or ahead not between 0 and 24 then
        raise exception 'behind and ahead are 0 to 24 months';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('fulcrum.ensure_partitions ' || parent::oid, 0));

    select string_agg(quote_ident(attname), ', ' order by attnum) into cols
    from pg_attribute where attrelid = parent and attnum > 0 and not attisdropped and attgenerated = '';

    fallback := format('%I.%I', space, base || '_default');
    if to_regclass(fallback) is null then
        execute format('create table %s partition of %s default', fallback, parent);
        execute format('alter table %s enable row level security', fallback);
        execute format('alter table %s owner to %I', fallback, keeper);
        made := made + 1;
    end if;

    for i in -behind .. ahead loop
        month := date_trunc('month', now()) + make_interval(months => i);
        part := format('%I.%I', space, base || to_char(month, '"_y"YYYY"m"MM'));
        continue when to_regclass(part) is not null;
        execute format('create table %s (like %s including defaults including constraints including generated including storage)', part, parent);
        -- Rows that came before their partition did.
        execute format('with late as (delete from %s where %I >= %L and %I < %L returning %s) insert into %s (%s) select %s from late',
            fallback, keycol, month, keycol, month + interval '1 month', cols, part, cols, cols);
        -- ATTACH leaves the parent readable and writable; PARTITION OF would not.
        execute format('alter table %s attach partition %s for values from (%L) to (%L)',
            parent, part, month, month + interval '1 month');
        -- The parent's policies guard reads through the parent; no policy here
        -- means that a grant by mistake still shows nothing.
        execute format('alter table %s enable row level security', part);
        execute format('alter table %s owner to %I', part, keeper);
        made := made + 1;
    end loop;
    return made;
end
$$;

-- drop_partitions drops monthly partitions that ended before the given time.
create function fulcrum.drop_partitions(parent regclass, ended_before timestamptz) returns integer
    language plpgsql security definer
    set search_path = pg_catalog
    set lock_timeout = '1s'
    set timezone = 'UTC'
as $$
declare
    part    regclass;
    dropped integer := 0;
begin
    for part in
        select i.inhrelid::regclass
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        join pg_namespace n on n.oid = c.relnamespace
        where i.inhparent = parent and n.nspname in ('fulcrum', 'metrics')
          and c.relname ~ '_y\d{4}m\d{2}$'
          and to_timestamp(right(c.relname, 7), 'YYYY"m"MM') + interval '1 month' <= ended_before
    loop
        execute format('drop table %s', part);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;
-- +goose StatementEnd

grant execute on function fulcrum.current_tenant(), fulcrum.current_tenants() to public;
grant execute on function fulcrum.ensure_partitions(regclass, integer, integer) to fulcrum_app, fulcrum_retention;
grant execute on function fulcrum.drop_partitions(regclass, timestamptz) to fulcrum_retention;

create table fulcrum.tenants (
    id              uuid primary key,
    name            text        not null check (length(name) between 1 and 128),
    status          text        not null default 'active' check (status in ('active', 'suspended')),
    settings        jsonb       not null default '{}' check (jsonb_typeof(settings) = 'object'),
    idempotency_key text        unique,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);
comment on table fulcrum.tenants is 'owner: control-plane. One row per isolation boundary. No tenant_id and no grant to the app: reached by the SECURITY DEFINER functions of fulcrum_admin only.';
grant select, insert, update on fulcrum.tenants to fulcrum_admin;

-- +goose Down
drop table fulcrum.tenants;
drop function fulcrum.drop_partitions(regclass, timestamptz);
drop function fulcrum.ensure_partitions(regclass, integer, integer);
drop function fulcrum.protect_list(regclass);
drop function fulcrum.protect(regclass);
drop function fulcrum.protect_by(regclass, text);
drop function fulcrum.current_tenants();
drop function fulcrum.current_tenant();
revoke select on all sequences in schema fulcrum from fulcrum_backup;
revoke select on fulcrum.goose_db_version from fulcrum_app, fulcrum_backup;
alter default privileges in schema fulcrum revoke select on sequences from fulcrum_backup;
alter default privileges in schema metrics revoke select on tables from fulcrum_backup;
alter default privileges in schema fulcrum revoke select on tables from fulcrum_backup;
drop schema metrics;
revoke all on schema fulcrum from fulcrum_app, fulcrum_retention, fulcrum_backup, fulcrum_scout, fulcrum_admin, metrics_owner;
alter default privileges grant execute on functions to public;
