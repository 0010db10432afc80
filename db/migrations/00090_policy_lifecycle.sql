-- +goose Up
-- The tests of a version, which must pass before it is put into force. They are
-- kept apart from its content, so that what decides does not carry them along.
create table fulcrum.policy_tests (
    tenant_id uuid    not null,
    policy_id uuid    not null,
    version   bigint  not null,
    ordinal   integer not null check (ordinal >= 0),
    name      text    not null,
    content   bytea   not null,
    primary key (tenant_id, policy_id, version, ordinal),
    unique (tenant_id, policy_id, version, name),
    foreign key (tenant_id, policy_id, version) references fulcrum.policy_versions (tenant_id, policy_id, version)
);
comment on table fulcrum.policy_tests is
    'owner: control-plane. The tests of each version of a policy, as fulcrum.policy.v1.PolicyTest. Never changed: there is no grant to.';

-- Every change of what is in force, who made it and why.
create table fulcrum.policy_activations (
    tenant_id          uuid        not null,
    policy_id          uuid        not null,
    -- Of the policy, as the change left it.
    revision           bigint      not null check (revision > 0),
    action             text        not null check (action in ('activate', 'edit', 'rollback', 'deactivate', 'delete')),
    version            bigint      not null check (version > 0),
    from_version       bigint      not null check (from_version >= 0),
    actor              text        not null,
    at                 timestamptz not null default now(),
    reason             text        not null default '',
    policy_set_version bigint      not null check (policy_set_version > 0),
    tests_passed       integer     not null default 0 check (tests_passed >= 0),
    primary key (tenant_id, policy_id, revision),
    foreign key (tenant_id, policy_id) references fulcrum.policies (tenant_id, id)
);
comment on table fulcrum.policy_activations is
    'owner: control-plane. Which version of a policy was in force when, who put it there and why. Never changed: there is no grant to.';
comment on column fulcrum.policy_activations.from_version is 'the version that was in force before; 0 for none';

select fulcrum.protect('fulcrum.policy_tests');
select fulcrum.protect('fulcrum.policy_activations');
grant select, insert on fulcrum.policy_tests to fulcrum_app;
grant select, insert on fulcrum.policy_activations to fulcrum_app;

-- +goose Down
drop table fulcrum.policy_activations;
drop table fulcrum.policy_tests;
