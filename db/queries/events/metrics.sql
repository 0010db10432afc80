-- name: IngestCosts :exec
select metrics.ingest_costs(
    @tenant_ids::uuid[], @ats::timestamptz[], @event_ids::uuid[], @agent_ids::text[], @teams::text[], @user_ids::text[], @api_key_ids::text[],
    @workflow_ids::text[], @envelope_ids::text[], @models::text[], @cost_nanos::bigint[], @input_tokens::bigint[], @output_tokens::bigint[],
    @cached_tokens::bigint[], @reasoning_tokens::bigint[], @llm_calls::bigint[], @tool_calls::bigint[], @seconds::bigint[],
    @price_versions::text[], @reservation_ids::text[]);

-- name: IngestDecisions :exec
select metrics.ingest_decisions(
    @tenant_ids::uuid[], @ats::timestamptz[], @event_ids::uuid[], @agent_ids::text[], @actions::text[], @decisions::text[],
    @totals_us::bigint[], @evaluates_us::bigint[], @reserves_us::bigint[]);

-- name: IngestCounters :exec
select metrics.ingest_counters(
    @tenant_ids::uuid[], @minutes::timestamptz[], @agent_ids::text[], @last_ats::timestamptz[], @events::bigint[], @errors::bigint[],
    @decisions::bigint[], @denials::bigint[], @cost_nanos::bigint[], @input_tokens::bigint[], @output_tokens::bigint[]);

-- name: AgentHours :many
select hour as period, errors, decisions, denials, cost_nano, input_tokens, output_tokens, last_at
from metrics.agent_hours_v
where tenant_id = @tenant_id and agent_id = @agent_id and hour >= sqlc.arg(from_time)::timestamptz and hour < sqlc.arg(to_time)::timestamptz
order by hour;

-- name: AgentDays :many
select day::timestamptz as period, errors, decisions, denials, cost_nano, input_tokens, output_tokens, last_at
from metrics.agent_days_v
where tenant_id = @tenant_id and agent_id = @agent_id and day >= sqlc.arg(from_time)::timestamptz and day < sqlc.arg(to_time)::timestamptz
order by day;

-- name: AgentMinutes :many
select at as period,
       coalesce(sum(value) filter (where name = 'errors'), 0)::bigint as errors,
       coalesce(sum(value) filter (where name = 'decisions'), 0)::bigint as decisions,
       coalesce(sum(value) filter (where name = 'denials'), 0)::bigint as denials,
       coalesce(sum(value) filter (where name = 'cost_nano'), 0)::bigint as cost_nano,
       coalesce(sum(value) filter (where name = 'input_tokens'), 0)::bigint as input_tokens,
       coalesce(sum(value) filter (where name = 'output_tokens'), 0)::bigint as output_tokens,
       at as last_at
from metrics.metrics_v
where tenant_id = @tenant_id and agent_id = @agent_id and at >= sqlc.arg(from_time)::timestamptz and at < sqlc.arg(to_time)::timestamptz
group by at
order by at;

-- name: AgentLatency :many
-- Percentiles do not add up: they are taken over the decisions themselves.
select date_bin((sqlc.arg(width)::text)::interval, at, timestamptz '1970-01-01 00:00:00+00')::timestamptz as period,
       coalesce(avg(total_us), 0)::double precision as avg_us,
       coalesce(percentile_cont(0.50) within group (order by total_us), 0)::double precision as p50_us,
       coalesce(percentile_cont(0.95) within group (order by total_us), 0)::double precision as p95_us,
       coalesce(percentile_cont(0.99) within group (order by total_us), 0)::double precision as p99_us,
       max(at)::timestamptz as last_at
from metrics.decision_latency_v
where tenant_id = @tenant_id and agent_id = @agent_id and at >= sqlc.arg(from_time)::timestamptz and at < sqlc.arg(to_time)::timestamptz
group by 1;

-- name: IngestExecutions :exec
select metrics.ingest_executions(
    @tenant_ids::uuid[], @quarters::timestamptz[], @workflow_ids::text[], @teams::text[], @agent_ids::text[], @api_key_ids::text[],
    @opened::bigint[], @completed::bigint[], @failed::bigint[], @terminated::bigint[]);

-- name: Executions :many
-- One row a group, in the words of the budget service's sums: days, weeks (by
-- their Monday) and months are those of the zone.
select (case @group_by::text
        when 'workflow' then q.workflow_id
        when 'team' then q.team
        when 'agent' then q.agent_id
        when 'key' then q.api_key_id
        when 'day' then to_char(q.quarter at time zone @zone::text, 'YYYY-MM-DD')
        when 'week' then to_char(date_trunc('week', q.quarter at time zone @zone::text), 'YYYY-MM-DD')
        when 'month' then to_char(q.quarter at time zone @zone::text, 'YYYY-MM')
        else '' end)::text as group_key,
    sum(q.opened)::bigint as opened, sum(q.completed)::bigint as completed, sum(q.failed)::bigint as failed, sum(q.terminated)::bigint as terminated
from metrics.execution_quarters_v q
where q.tenant_id = @tenant_id and q.quarter >= sqlc.arg(from_time)::timestamptz and q.quarter < sqlc.arg(to_time)::timestamptz
  and (@workflow_id::text = '' or q.workflow_id = @workflow_id)
group by 1
order by 1;
