-- +goose Up
create table fulcrum.wallets (
    tenant_id        uuid        not null references fulcrum.tenants (id),
    id               uuid        not null,
    revision         bigint      not null default 1 check (revision > 0),
    name             text        not null check (length(name) between 1 and 128),
    description      text        not null default '',
    low_balance_nano bigint[]    not null default '{}' check (cardinality(low_balance_nano) <= 8 and 0 < all (low_balance_nano)),
    frozen           boolean     not null default false,
    frozen_reason    text        not null default '',
    created_by       text        not null,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint wallets_name unique (tenant_id, name)
);
comment on table fulcrum.wallets is
    'owner: control-plane. Wallets as configured. What is in one is in the ledger: the row wallet:<id> of budget_windows.';
select fulcrum.protect('fulcrum.wallets');
grant select, insert, update on fulcrum.wallets to fulcrum_app;

-- +goose Down
drop table fulcrum.wallets;
