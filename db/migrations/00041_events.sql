-- +goose Up
-- Partitioned by the time of storing, which nobody outside chooses and which
-- grows with stream_sequence.
create table fulcrum.events (
    tenant_id       uuid        not null,
    stream_sequence bigint      not null check (stream_sequence > 0),
    stored_at       timestamptz not null,
    event_id        uuid        not null,
    execution_key   text        collate "C" not null,
    sequence_number bigint      not null check (sequence_number > 0),
    type            text        collate "C" not null,
    origin          smallint    not null check (origin in (1, 2)),
    writer          text        not null,
    occurred_at     timestamptz not null,
    execution_id    text        not null,
    envelope_id     text        not null,
    workflow_id     text        collate "C" not null,
    actor           text        not null,
    action          text        not null,
    resource        text        not null,
    decision        text        not null,
    policy_version  bigint      not null,
    agent_id        text        not null,
    team            text        not null,
    api_key_id      text        not null,
    user_id         text        not null,
    payload         jsonb       not null check (jsonb_typeof(payload) = 'object'),
    labels          jsonb       not null check (jsonb_typeof(labels) = 'object'),
    trace_id        text        not null,
    span_id         text        not null,
    model           text        not null,
    cost_nano       bigint      not null,
    input_tokens    bigint      not null,
    output_tokens   bigint      not null,
    latency_us      bigint      not null,
    size_bytes      integer     not null,
    primary key (tenant_id, stream_sequence, stored_at)
) partition by range (stored_at);
comment on table fulcrum.events is 'owner: event-processor. Every event once, immutable. A unique (tenant_id, event_id) cannot span partitions: the inbox row of the same transaction keeps it, and a look-up here for events whose inbox row was trimmed.';
comment on column fulcrum.events.origin is 'fulcrum.bus.v1.Origin: 1 Fulcrum states it, 2 a caller does';
comment on column fulcrum.events.size_bytes is 'of the event as it travelled';
create index events_id on fulcrum.events (tenant_id, event_id);
create index events_execution on fulcrum.events (tenant_id, execution_key, sequence_number);
create index events_type on fulcrum.events (tenant_id, type, stream_sequence);
create index events_workflow on fulcrum.events (tenant_id, workflow_id, stream_sequence) where workflow_id <> '';
create index events_occurred on fulcrum.events (tenant_id, occurred_at);

select fulcrum.protect_list('fulcrum.events');
grant select, insert on fulcrum.events to fulcrum_app;
select fulcrum.ensure_partitions('fulcrum.events');

-- +goose Down
drop table fulcrum.events;
