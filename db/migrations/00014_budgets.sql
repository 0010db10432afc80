-- +goose Up
create table fulcrum.budgets (
    tenant_id   uuid        not null references fulcrum.tenants (id),
    id          uuid        not null,
    revision    bigint      not null default 1 check (revision > 0),
    name        text        not null default '',
    workflow_id text        not null default '',
    suspended   boolean     not null default false,
    content     bytea       not null,
    created_by  text        not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    deleted_at  timestamptz,
    primary key (tenant_id, id)
);
comment on table fulcrum.budgets is
    'owner: control-plane. Budgets as written: content is fulcrum.cost.v1.Budget without what the server sets. What is spent is in the ledger.';
create index budgets_live on fulcrum.budgets (tenant_id, id) where deleted_at is null;
select fulcrum.protect('fulcrum.budgets');
grant select, insert, update on fulcrum.budgets to fulcrum_app;

create table fulcrum.price_versions (
    tenant_id                     uuid        not null references fulcrum.tenants (id),
    id                            uuid        not null,
    model                         text        not null check (length(model) between 1 and 256),
    input_per_million_nano        bigint      not null check (input_per_million_nano >= 0),
    output_per_million_nano       bigint      not null check (output_per_million_nano >= 0),
    cached_input_per_million_nano bigint      not null check (cached_input_per_million_nano >= 0),
    reasoning_per_million_nano    bigint      not null check (reasoning_per_million_nano >= 0),
    per_call_nano                 bigint      not null check (per_call_nano >= 0),
    effective_from                timestamptz not null,
    version                       text        not null check (length(version) between 1 and 64),
    created_by                    text        not null,
    created_at                    timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, model, effective_from)
);
comment on table fulcrum.price_versions is
    'owner: control-plane. A tenant''s own prices, dated; the shipped table is built into budget. Never changed: a new price is a new row.';
select fulcrum.protect('fulcrum.price_versions');
grant select, insert on fulcrum.price_versions to fulcrum_app;

-- +goose Down
drop table fulcrum.price_versions;
drop table fulcrum.budgets;
