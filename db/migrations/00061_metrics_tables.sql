-- +goose Up
-- These tables belong to metrics_owner and are granted to nobody: policies do
-- not reach chunks and partitions, and TimescaleDB refuses compression next to
-- row level security. Written by metrics.ingest_*, read through the views.
create table metrics.metrics (
    tenant_id uuid        not null,
    at        timestamptz not null,
    agent_id  text        collate "C" not null,
    name      text        collate "C" not null,
    value     bigint      not null
);

create table metrics.cost_events (
    tenant_id        uuid        not null,
    at               timestamptz not null,
    event_id         uuid        not null,
    agent_id         text        collate "C" not null,
    team             text        not null,
    user_id          text        not null,
    api_key_id       text        not null,
    workflow_id      text        not null,
    envelope_id      text        not null,
    model            text        not null,
    cost_nano        bigint      not null,
    input_tokens     bigint      not null,
    output_tokens    bigint      not null,
    cached_tokens    bigint      not null,
    reasoning_tokens bigint      not null,
    llm_calls        bigint      not null,
    tool_calls       bigint      not null,
    seconds          bigint      not null,
    price_version    text        not null,
    reservation_id   text        not null
);

create table metrics.decision_latency (
    tenant_id   uuid        not null,
    at          timestamptz not null,
    event_id    uuid        not null,
    agent_id    text        collate "C" not null,
    action      text        not null,
    decision    text        not null,
    total_us    bigint      not null,
    evaluate_us bigint      not null,
    reserve_us  bigint      not null
);

-- +goose StatementBegin
do $$
declare
    timescale text := (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb');
    base      text;
begin
    foreach base in array array['metrics', 'cost_events', 'decision_latency'] loop
        if timescale is null then
            execute format('alter table metrics.%I rename to %I', base, base || '_shape');
            execute format('create table metrics.%I (like metrics.%I) partition by range (at)', base, base || '_shape');
            execute format('drop table metrics.%I', base || '_shape');
            execute format('alter table metrics.%I owner to metrics_owner', base);
            perform metrics.ensure_days(format('metrics.%I', base)::regclass);
            continue;
        end if;
        execute format('alter table metrics.%I owner to metrics_owner', base);
        set local role metrics_owner;
        execute format('select %I.create_hypertable(%L::regclass, ''at''::name, chunk_time_interval => interval ''1 day'', create_default_indexes => false)',
            timescale, 'metrics.' || base);
        begin
            execute format('alter table metrics.%I set (timescaledb.compress, timescaledb.compress_segmentby = ''tenant_id'', timescaledb.compress_orderby = ''at desc'')', base);
            execute format('select %I.add_compression_policy(%L::regclass, interval ''7 days'')', timescale, 'metrics.' || base);
            execute format('select %I.add_retention_policy(%L::regclass, interval ''90 days'')', timescale, 'metrics.' || base);
        exception when feature_not_supported then
            raise notice 'this TimescaleDB compresses and forgets nothing by itself: call metrics.drop_days';
        end;
        set local role fulcrum_owner;
    end loop;
end
$$;
-- +goose StatementEnd
comment on table metrics.metrics is 'owner: event-processor. Counters by minute and agent; several rows may add up to one minute.';
comment on table metrics.cost_events is 'owner: event-processor. What each settlement charged.';
comment on table metrics.decision_latency is 'owner: event-processor. How each decision fell and how long it took.';
create index metrics_agent on metrics.metrics (tenant_id, agent_id, at);
create index cost_events_agent on metrics.cost_events (tenant_id, agent_id, at);
create index decision_latency_agent on metrics.decision_latency (tenant_id, agent_id, at);

create table metrics.agent_hours (
    tenant_id     uuid        not null,
    hour          timestamptz not null,
    agent_id      text        collate "C" not null,
    events        bigint      not null,
    errors        bigint      not null,
    decisions     bigint      not null,
    denials       bigint      not null,
    cost_nano     bigint      not null,
    input_tokens  bigint      not null,
    output_tokens bigint      not null,
    last_at       timestamptz not null,
    primary key (tenant_id, agent_id, hour)
) partition by range (hour);
comment on table metrics.agent_hours is 'owner: event-processor. The counters of each agent rolled up by hour, kept as they are ingested.';
alter table metrics.agent_hours owner to metrics_owner;
select fulcrum.ensure_partitions('metrics.agent_hours');

-- +goose Down
drop table metrics.agent_hours;
drop table metrics.decision_latency;
drop table metrics.cost_events;
drop table metrics.metrics;
