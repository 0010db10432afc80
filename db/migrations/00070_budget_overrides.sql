-- +goose Up
create table fulcrum.budget_overrides (
    tenant_id     uuid        not null references fulcrum.tenants (id),
    id            uuid        not null,
    budget_id     uuid        not null,
    starts_at     timestamptz not null,
    ends_at       timestamptz not null,
    content       bytea       not null,
    reason        text        not null check (length(reason) between 1 and 1024),
    created_by    text        not null,
    created_at    timestamptz not null default now(),
    revoked_at    timestamptz,
    revoked_by    text        not null default '',
    revoke_reason text        not null default '',
    primary key (tenant_id, id),
    foreign key (tenant_id, budget_id) references fulcrum.budgets (tenant_id, id),
    check (starts_at < ends_at),
    check ((revoked_at is null) = (revoked_by = ''))
);
comment on table fulcrum.budget_overrides is
    'owner: control-plane. Limits that stand in for a budget''s own for a time: content is fulcrum.cost.v1.BudgetOverride with limits and suspended. Nothing starts or ends one but the clock; only a revocation changes a row.';
create index budget_overrides_of on fulcrum.budget_overrides (tenant_id, budget_id, id);
create index budget_overrides_live on fulcrum.budget_overrides (tenant_id, ends_at) where revoked_at is null;
select fulcrum.protect('fulcrum.budget_overrides');
grant select, insert on fulcrum.budget_overrides to fulcrum_app;
grant update (revoked_at, revoked_by, revoke_reason) on fulcrum.budget_overrides to fulcrum_app;

-- +goose Down
drop table fulcrum.budget_overrides;
