-- +goose Up
create table fulcrum.spend_rollups (
    tenant_id        uuid        not null,
    hour             timestamptz not null,
    workflow_id      text        collate "C" not null,
    team             text        collate "C" not null,
    agent_id         text        collate "C" not null,
    api_key_id       text        collate "C" not null,
    model            text        collate "C" not null,
    cost_nano        bigint      not null default 0,
    total_tokens     bigint      not null default 0,
    input_tokens     bigint      not null default 0,
    output_tokens    bigint      not null default 0,
    llm_calls        bigint      not null default 0,
    tool_calls       bigint      not null default 0,
    seconds          bigint      not null default 0,
    charges          bigint      not null default 0,
    failures         bigint      not null default 0,
    primary key (tenant_id, hour, workflow_id, team, agent_id, api_key_id, model),
    check (least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0)
) with (fillfactor = 70);
comment on table fulcrum.spend_rollups is 'owner: budget. Sums of what was charged, by hour of the tenant''s clock; kept in the transaction of each charge. Summaries are read from here, never from the ledger.';
select fulcrum.protect_list('fulcrum.spend_rollups');
grant select, insert, update on fulcrum.spend_rollups to fulcrum_app;

create table fulcrum.envelope_costs (
    tenant_id        uuid        not null,
    envelope_id      text        collate "C" not null,
    model            text        collate "C" not null,
    cost_nano        bigint      not null default 0,
    total_tokens     bigint      not null default 0,
    input_tokens     bigint      not null default 0,
    output_tokens    bigint      not null default 0,
    llm_calls        bigint      not null default 0,
    tool_calls       bigint      not null default 0,
    seconds          bigint      not null default 0,
    charges          bigint      not null default 0,
    failures         bigint      not null default 0,
    primary key (tenant_id, envelope_id, model),
    check (least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0)
) with (fillfactor = 70);
comment on table fulcrum.envelope_costs is 'owner: budget. Sums of what was charged to one envelope, by model; kept in the transaction of each charge.';
select fulcrum.protect_list('fulcrum.envelope_costs');
grant select, insert, update on fulcrum.envelope_costs to fulcrum_app;

-- +goose Down
drop table fulcrum.envelope_costs;
drop table fulcrum.spend_rollups;
