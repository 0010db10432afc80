-- +goose Up
create table fulcrum.immune_detectors (
    tenant_id      uuid        not null references fulcrum.tenants (id),
    name           text        not null check (name in ('loop', 'cost_velocity', 'bulk_read', 'privilege')),
    enabled        boolean     not null,
    threshold      bigint      not null check (threshold between 2 and 1000000000000000),
    window_seconds integer     not null check (window_seconds between 10 and 86400),
    updated_at     timestamptz not null default now(),
    updated_by     text        not null,
    primary key (tenant_id, name)
);
comment on table fulcrum.immune_detectors is 'owner: event-processor. What a tenant has set of a detector; without a row, what is shipped holds.';
select fulcrum.protect('fulcrum.immune_detectors');
grant select, insert, update on fulcrum.immune_detectors to fulcrum_app;

create table fulcrum.immune_windows (
    tenant_id    uuid        not null references fulcrum.tenants (id),
    detector     text        not null,
    pattern_id   uuid        not null,
    window_start timestamptz not null,
    amount       bigint      not null check (amount >= 0),
    primary key (tenant_id, detector, pattern_id, window_start)
);
comment on table fulcrum.immune_windows is 'owner: event-processor. What detectors counted, per pattern and window; deleted after two days.';
create index immune_windows_age on fulcrum.immune_windows (tenant_id, window_start);
select fulcrum.protect('fulcrum.immune_windows');
grant select, insert, update, delete on fulcrum.immune_windows to fulcrum_app;

create table fulcrum.attack_patterns (
    tenant_id  uuid        not null references fulcrum.tenants (id),
    id         uuid        not null,
    signature  text        not null,
    indicators text[]      not null,
    frequency  integer     not null check (frequency > 0),
    first_seen timestamptz not null,
    last_seen  timestamptz not null,
    primary key (tenant_id, id)
);
comment on table fulcrum.attack_patterns is 'owner: event-processor. What incidents have in common, and how many there were.';
create index attack_patterns_newest on fulcrum.attack_patterns (tenant_id, last_seen desc, id desc);
select fulcrum.protect('fulcrum.attack_patterns');
grant select, insert, update on fulcrum.attack_patterns to fulcrum_app;

create table fulcrum.incidents (
    tenant_id    uuid        not null references fulcrum.tenants (id),
    id           uuid        not null,
    pattern_id   uuid        not null,
    detector     text        not null,
    window_start timestamptz,
    severity     smallint    not null check (severity between 0 and 4),
    category     smallint    not null check (category between 0 and 5),
    description  text        not null,
    details      jsonb       not null check (jsonb_typeof(details) = 'object'),
    reported_by  text        not null,
    body_hash    bytea,
    occurred_at  timestamptz not null,
    created_at   timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, pattern_id) references fulcrum.attack_patterns (tenant_id, id),
    check ((detector = '') = (window_start is null))
);
comment on table fulcrum.incidents is 'owner: event-processor. Immutable. A detector opens one per pattern and window; detector is empty where somebody reported it.';
comment on column fulcrum.incidents.body_hash is 'of a report that came with an idempotency key';
create unique index incidents_once on fulcrum.incidents (tenant_id, pattern_id, window_start) where window_start is not null;
create index incidents_newest on fulcrum.incidents (tenant_id, created_at desc, id desc);
create index incidents_pattern on fulcrum.incidents (tenant_id, pattern_id);
select fulcrum.protect('fulcrum.incidents');
grant select, insert on fulcrum.incidents to fulcrum_app;

create table fulcrum.generated_policies (
    tenant_id    uuid        not null references fulcrum.tenants (id),
    id           uuid        not null,
    pattern_id   uuid        not null,
    incident_id  uuid        not null,
    policy       bytea       not null,
    reasoning    text        not null,
    agent_id     text        not null,
    api_key_id   text        not null,
    user_id      text        not null,
    state        text        not null default 'PENDING'
        check (state in ('PENDING', 'APPROVING', 'MODIFYING', 'APPROVED', 'MODIFIED', 'REJECTED')),
    reviewer     text        not null default '',
    review_note  text        not null default '',
    policy_id    uuid,
    generated_at timestamptz not null default now(),
    reviewed_at  timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, incident_id) references fulcrum.incidents (tenant_id, id),
    foreign key (tenant_id, pattern_id) references fulcrum.attack_patterns (tenant_id, id),
    check ((state in ('APPROVED', 'MODIFIED')) = (policy_id is not null))
);
comment on table fulcrum.generated_policies is 'owner: event-processor. Drafts that detectors proposed, and what a person said. What is APPROVING or MODIFYING is answered and not carried out yet.';
comment on column fulcrum.generated_policies.policy is 'fulcrum.policy.v1.Policy';
comment on column fulcrum.generated_policies.agent_id is 'whose actions caused it, like api_key_id and user_id: none of them may review it';
comment on column fulcrum.generated_policies.policy_id is 'the control plane''s, once it is carried out';
create unique index generated_policies_open on fulcrum.generated_policies (tenant_id, pattern_id) where state in ('PENDING', 'APPROVING', 'MODIFYING');
create index generated_policies_pattern on fulcrum.generated_policies (tenant_id, pattern_id, generated_at);
create index generated_policies_incident on fulcrum.generated_policies (tenant_id, incident_id);
create index generated_policies_newest on fulcrum.generated_policies (tenant_id, generated_at desc, id desc);
select fulcrum.protect('fulcrum.generated_policies');
grant select, insert, update on fulcrum.generated_policies to fulcrum_app;

-- +goose Down
drop table fulcrum.generated_policies;
drop table fulcrum.incidents;
drop table fulcrum.attack_patterns;
drop table fulcrum.immune_windows;
drop table fulcrum.immune_detectors;
