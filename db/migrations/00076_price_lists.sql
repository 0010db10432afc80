-- +goose Up
-- A price list is a row here and the prices it brought in price_versions. Nothing
-- of either changes: another price for the same model and moment comes with a
-- later list, and counts instead.
create table fulcrum.price_lists (
    tenant_id  uuid        not null references fulcrum.tenants (id),
    revision   bigint      not null check (revision > 0),
    version    text        not null check (length(version) between 1 and 64),
    note       text        not null default '',
    prices     integer     not null check (prices > 0),
    created_by text        not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, revision),
    unique (tenant_id, version)
);
comment on table fulcrum.price_lists is
    'owner: control-plane. The versions of a tenant''s price list, numbered without gaps; what each brought is in price_versions. Never changed.';
select fulcrum.protect('fulcrum.price_lists');
grant select, insert on fulcrum.price_lists to fulcrum_app;

alter table fulcrum.price_versions
    add column revision bigint not null default 0 check (revision >= 0),
    add column cache_write_per_million_nano bigint not null default 0 check (cache_write_per_million_nano >= 0),
    add column tiers jsonb not null default '[]' check (jsonb_typeof(tiers) = 'array'),
    add column ended boolean not null default false,
    drop constraint price_versions_tenant_id_model_effective_from_key,
    add unique (tenant_id, model, effective_from, revision);
create index price_versions_revision on fulcrum.price_versions (tenant_id, revision);
comment on column fulcrum.price_versions.revision is 'the list it came with; of two prices of a model with the same effective_from the higher revision holds';
comment on column fulcrum.price_versions.tiers is 'fulcrum.config.v1.PriceTier each: what holds for calls with longer input';
comment on column fulcrum.price_versions.ended is 'from then on the tenant has no price of its own for the model';

-- +goose Down
drop index fulcrum.price_versions_revision;
alter table fulcrum.price_versions
    drop constraint price_versions_tenant_id_model_effective_from_revision_key,
    drop column revision, drop column cache_write_per_million_nano, drop column tiers, drop column ended,
    add unique (tenant_id, model, effective_from);
drop table fulcrum.price_lists;
