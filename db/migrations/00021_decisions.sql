-- +goose Up
-- Every answer that was given, with all that is needed to explain it. There is
-- no grant to change a row.
create table fulcrum.decisions (
    tenant_id          uuid        not null,
    id                 uuid        not null,
    decided_at         timestamptz not null default now(),
    -- The call that asked: authorize, create_envelope, evaluate, settle.
    method             text        not null check (method in ('authorize', 'create_envelope', 'evaluate', 'settle')),
    decision           text        not null check (decision in ('ALLOW', 'WARN', 'REQUIRE_APPROVAL', 'DENY')),
    envelope_id        uuid,
    -- settle: the decision whose output was judged.
    parent_id          uuid,
    agent_id           text        not null default '',
    team               text        not null default '',
    user_id            text        not null default '',
    key_id             text        not null,
    workflow_id        text        not null default '',
    action_kind        text        not null default '',
    action_name        text        not null default '',
    model              text        not null default '',
    reservation_id     uuid,
    held               boolean     not null default false,
    cost_nano          bigint      not null default 0 check (cost_nano >= 0),
    approval_id        uuid,
    policy_set_version bigint      not null default 0,
    policy_ids         text[]      not null default '{}',
    degraded           boolean     not null default false,
    evaluated_us       bigint      not null default 0,
    input              bytea       not null,
    result             bytea       not null,
    response           bytea       not null,
    primary key (tenant_id, id, decided_at),
    check (held = false or reservation_id is not null)
) partition by range (decided_at);
comment on table fulcrum.decisions is 'owner: gateway. Immutable answers: what was asked, what every policy said, what was held. Partitioned by month.';
comment on column fulcrum.decisions.input is 'fulcrum.policyengine.v1.Facts that were judged';
comment on column fulcrum.decisions.result is 'fulcrum.policyengine.v1.EvaluateResponse; empty when no policy was asked';
comment on column fulcrum.decisions.response is 'fulcrum.governance.v1.AuthorizeResponse';
comment on column fulcrum.decisions.reservation_id is 'the ledger''s id for this action, whether or not anything was held';
create index decisions_newest on fulcrum.decisions (tenant_id, decided_at desc, id desc);
create index decisions_envelope on fulcrum.decisions (tenant_id, envelope_id, decided_at desc) where envelope_id is not null;

select fulcrum.protect_list('fulcrum.decisions');
grant select, insert on fulcrum.decisions to fulcrum_app;
select fulcrum.ensure_partitions('fulcrum.decisions');

-- +goose Down
drop table fulcrum.decisions;
