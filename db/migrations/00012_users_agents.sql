-- +goose Up
create table fulcrum.users (
    tenant_id  uuid        not null references fulcrum.tenants (id),
    id         uuid        not null,
    email      text        not null check (length(email) between 3 and 320),
    name       text        not null default '',
    roles      text[]      not null default '{}',
    status     text        not null default 'active' check (status in ('active', 'disabled')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
comment on table fulcrum.users is 'owner: control-plane. People of a tenant, as their identity provider names them.';
create unique index users_email on fulcrum.users (tenant_id, lower(email));
select fulcrum.protect('fulcrum.users');
grant select, insert, update on fulcrum.users to fulcrum_app;

create table fulcrum.agents (
    tenant_id   uuid        not null references fulcrum.tenants (id),
    id          uuid        not null,
    name        text        not null check (length(name) between 1 and 256),
    description text        not null default '',
    model       text        not null default '',
    environment text        not null default '',
    team        text        not null default '',
    status      text        not null default 'active' check (status in ('active', 'paused', 'error', 'deleted')),
    config      jsonb       not null default '{}',
    revision    bigint      not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    primary key (tenant_id, id)
);
comment on table fulcrum.agents is 'owner: control-plane. Registered agents. A deleted one keeps its row for the records that name it.';
create index agents_by_team on fulcrum.agents (tenant_id, team, id);
select fulcrum.protect('fulcrum.agents');
grant select, insert, update on fulcrum.agents to fulcrum_app;

-- +goose Down
drop table fulcrum.agents;
drop table fulcrum.users;
