-- +goose Up
-- The only way out: each view shows the transaction's own tenant. The barrier
-- keeps a caller's functions from seeing rows before the filter has.
create view metrics.metrics_v with (security_barrier = true) as
    select tenant_id, at, agent_id, name, value
    from metrics.metrics where tenant_id = (select fulcrum.current_tenant());

create view metrics.cost_events_v with (security_barrier = true) as
    select tenant_id, at, event_id, agent_id, team, user_id, api_key_id, workflow_id, envelope_id, model, cost_nano,
           input_tokens, output_tokens, cached_tokens, reasoning_tokens, llm_calls, tool_calls, seconds, price_version, reservation_id
    from metrics.cost_events where tenant_id = (select fulcrum.current_tenant());

create view metrics.decision_latency_v with (security_barrier = true) as
    select tenant_id, at, event_id, agent_id, action, decision, total_us, evaluate_us, reserve_us
    from metrics.decision_latency where tenant_id = (select fulcrum.current_tenant());

create view metrics.agent_hours_v with (security_barrier = true) as
    select tenant_id, hour, agent_id, events, errors, decisions, denials, cost_nano, input_tokens, output_tokens, last_at
    from metrics.agent_hours where tenant_id = (select fulcrum.current_tenant());

create view metrics.agent_days_v with (security_barrier = true) as
    select tenant_id, date_bin('1 day', hour, timestamptz '1970-01-01 00:00:00+00') as day, agent_id,
           sum(events)::bigint as events, sum(errors)::bigint as errors, sum(decisions)::bigint as decisions, sum(denials)::bigint as denials,
           sum(cost_nano)::bigint as cost_nano, sum(input_tokens)::bigint as input_tokens, sum(output_tokens)::bigint as output_tokens,
           max(last_at)::timestamptz as last_at
    from metrics.agent_hours where tenant_id = (select fulcrum.current_tenant())
    group by 1, 2, 3;

comment on view metrics.metrics_v is 'owner: event-processor. metrics.metrics of the transaction''s tenant.';
comment on view metrics.cost_events_v is 'owner: event-processor. metrics.cost_events of the transaction''s tenant.';
comment on view metrics.decision_latency_v is 'owner: event-processor. metrics.decision_latency of the transaction''s tenant.';
comment on view metrics.agent_hours_v is 'owner: event-processor. Each agent''s counters by hour, of the transaction''s tenant.';
comment on view metrics.agent_days_v is 'owner: event-processor. Each agent''s counters by day (UTC), of the transaction''s tenant.';
alter view metrics.metrics_v owner to metrics_owner;
alter view metrics.cost_events_v owner to metrics_owner;
alter view metrics.decision_latency_v owner to metrics_owner;
alter view metrics.agent_hours_v owner to metrics_owner;
alter view metrics.agent_days_v owner to metrics_owner;
grant select on metrics.metrics_v, metrics.cost_events_v, metrics.decision_latency_v, metrics.agent_hours_v, metrics.agent_days_v to fulcrum_app;

-- +goose Down
drop view metrics.agent_days_v;
drop view metrics.agent_hours_v;
drop view metrics.decision_latency_v;
drop view metrics.cost_events_v;
drop view metrics.metrics_v;
