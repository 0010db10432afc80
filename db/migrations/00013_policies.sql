-- +goose Up
-- A policy is a pointer to one of its versions, and a status. Moving either
-- gives it the next revision, which callers see as its etag.
create table fulcrum.policies (
    tenant_id  uuid        not null references fulcrum.tenants (id),
    id         uuid        not null,
    version    bigint      not null check (version > 0),
    revision   bigint      not null default 1 check (revision > 0),
    status     text        not null check (status in ('DRAFT', 'ACTIVE', 'INACTIVE', 'ARCHIVED')),
    -- Copies from the version, for lists.
    priority   integer     not null,
    rule_types integer[]   not null default '{}',
    created_by text        not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    primary key (tenant_id, id)
);
comment on table fulcrum.policies is
    'owner: control-plane. Policies: status, revision (etag) and the version in force. A deleted one keeps its row and versions for the audit.';

create table fulcrum.policy_versions (
    tenant_id  uuid        not null,
    policy_id  uuid        not null,
    version    bigint      not null check (version > 0),
    name       text        not null,
    content    bytea       not null,
    sha256     bytea       not null check (length(sha256) = 32),
    created_by text        not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, policy_id, version),
    foreign key (tenant_id, policy_id) references fulcrum.policies (tenant_id, id) deferrable initially deferred
);
comment on table fulcrum.policy_versions is
    'owner: control-plane. Every content a policy ever had, as fulcrum.policy.v1.Policy without what the server sets. Never changed: there is no grant to.';

-- A pointer cannot dangle. Deferred, as each of the two rows needs the other.
alter table fulcrum.policies
    add foreign key (tenant_id, id, version) references fulcrum.policy_versions (tenant_id, policy_id, version)
        deferrable initially deferred;

create index policies_by_priority on fulcrum.policies (tenant_id, priority desc, id) where deleted_at is null;
create index policies_active on fulcrum.policies (tenant_id, id) where status = 'ACTIVE' and deleted_at is null;

select fulcrum.protect('fulcrum.policies');
select fulcrum.protect('fulcrum.policy_versions');
grant select, insert, update on fulcrum.policies to fulcrum_app;
grant select, insert on fulcrum.policy_versions to fulcrum_app;

-- +goose Down
alter table fulcrum.policies drop constraint policies_tenant_id_id_version_fkey;
drop table fulcrum.policy_versions;
drop table fulcrum.policies;
