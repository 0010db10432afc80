-- +goose Up
-- The published form of a tenant's configuration. Control-plane writes it in the
-- transaction of every change; policy-engine and budget read it. It is the only
-- table that crosses services.
create table fulcrum.config_bundles (
    tenant_id  uuid        not null references fulcrum.tenants (id),
    kind       text        not null check (kind in ('policies', 'budgets')),
    version    bigint      not null check (version > 0),
    content    bytea       not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, kind)
);
comment on table fulcrum.config_bundles is
    'owner: control-plane. Current configuration per tenant and kind: fulcrum.config.v1.PolicyBundle or BudgetBundle. Versions grow by one; the row is locked by every change, which puts the changes of a tenant in order.';

select fulcrum.protect('fulcrum.config_bundles');
grant select, insert, update on fulcrum.config_bundles to fulcrum_app;

-- +goose StatementBegin
-- A version never goes back and never skips, whoever writes. A change counts it
-- up first, which locks the row, and writes the content last.
create function fulcrum.config_bundle_advances() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if new.version not in (old.version, old.version + 1) then
        raise exception 'config bundle % of tenant % goes from version % to %', old.kind, old.tenant_id, old.version, new.version
            using errcode = 'check_violation';
    end if;
    return new;
end
$$;
-- +goose StatementEnd
create trigger config_bundle_advances before update on fulcrum.config_bundles
    for each row execute function fulcrum.config_bundle_advances();

-- +goose Down
drop table fulcrum.config_bundles;
drop function fulcrum.config_bundle_advances();
