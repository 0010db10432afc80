-- name: EnvelopeCosts :many
select c.model, c.cost_nano, c.total_tokens, c.input_tokens, c.output_tokens, c.llm_calls, c.tool_calls, c.seconds, c.charges, c.failures
from fulcrum.envelope_costs c
where c.tenant_id = @tenant_id and c.envelope_id = @envelope_id
order by c.model;

-- name: SpendByGroup :many
-- One row a group and model. Days, weeks (by their Monday) and months are those
-- of the zone.
select (case @group_by::text
        when 'model' then r.model
        when 'workflow' then r.workflow_id
        when 'team' then r.team
        when 'agent' then r.agent_id
        when 'key' then r.api_key_id
        when 'day' then to_char(r.hour at time zone @zone::text, 'YYYY-MM-DD')
        when 'week' then to_char(date_trunc('week', r.hour at time zone @zone::text), 'YYYY-MM-DD')
        when 'month' then to_char(r.hour at time zone @zone::text, 'YYYY-MM')
        else '' end)::text as group_key,
    r.model, sum(r.cost_nano)::bigint as cost_nano, sum(r.total_tokens)::bigint as total_tokens, sum(r.input_tokens)::bigint as input_tokens, sum(r.output_tokens)::bigint as output_tokens, sum(r.llm_calls)::bigint as llm_calls, sum(r.tool_calls)::bigint as tool_calls, sum(r.seconds)::bigint as seconds, sum(r.charges)::bigint as charges, sum(r.failures)::bigint as failures,
    min(r.hour)::timestamptz as first_hour, max(r.hour)::timestamptz as last_hour
from fulcrum.spend_rollups r
where r.tenant_id = @tenant_id and r.hour >= @from_hour and r.hour < @until_hour
  and (@workflow_id::text = '' or r.workflow_id = @workflow_id)
group by 1, r.model
order by 1, r.model;
