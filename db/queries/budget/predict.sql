-- name: AddBudgetHours :exec
-- Rows arrive in key order, so that two batches never wait for each other.
insert into fulcrum.budget_hours as t (tenant_id, budget_id, hour, window_start, model, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, charges)
select unnest(@tenant_ids::uuid[]), unnest(@budget_ids::text[]), unnest(@hours::timestamptz[]), unnest(@window_starts::timestamptz[]), unnest(@models::text[]),
    unnest(@cost_nano::bigint[]), unnest(@total_tokens::bigint[]), unnest(@input_tokens::bigint[]), unnest(@output_tokens::bigint[]), unnest(@llm_calls::bigint[]), unnest(@tool_calls::bigint[]), unnest(@seconds::bigint[]), unnest(@charges::bigint[])
on conflict (tenant_id, budget_id, hour, window_start, model) do update
set cost_nano = t.cost_nano + excluded.cost_nano, total_tokens = t.total_tokens + excluded.total_tokens, input_tokens = t.input_tokens + excluded.input_tokens, output_tokens = t.output_tokens + excluded.output_tokens, llm_calls = t.llm_calls + excluded.llm_calls, tool_calls = t.tool_calls + excluded.tool_calls, seconds = t.seconds + excluded.seconds, charges = t.charges + excluded.charges;

-- name: AddCallSizes :exec
insert into fulcrum.call_sizes as t (tenant_id, workflow_id, model, day, input_bucket, output_bucket, calls, input_tokens, output_tokens, cost_nano, seconds)
select unnest(@tenant_ids::uuid[]), unnest(@workflow_ids::text[]), unnest(@models::text[]), unnest(@days::date[]),
    unnest(@input_buckets::smallint[]), unnest(@output_buckets::smallint[]),
    unnest(@calls::bigint[]), unnest(@input_tokens::bigint[]), unnest(@output_tokens::bigint[]), unnest(@cost_nano::bigint[]), unnest(@seconds::bigint[])
on conflict (tenant_id, workflow_id, model, day, input_bucket, output_bucket) do update
set calls = t.calls + excluded.calls, input_tokens = t.input_tokens + excluded.input_tokens, output_tokens = t.output_tokens + excluded.output_tokens,
    cost_nano = t.cost_nano + excluded.cost_nano, seconds = t.seconds + excluded.seconds;

-- name: NoteThresholds :exec
-- Announced again, because the limit was raised and reached once more: the
-- later time stays.
insert into fulcrum.budget_notices (tenant_id, budget_id, window_start, threshold_bp, notified_at)
select unnest(@tenant_ids::uuid[]), unnest(@budget_ids::text[]), unnest(@window_starts::timestamptz[]), unnest(@threshold_bps::integer[]), unnest(@notified_ats::timestamptz[])
on conflict (tenant_id, budget_id, window_start, threshold_bp) do update
set notified_at = excluded.notified_at;

-- name: Notices :many
select n.budget_id, n.window_start, n.threshold_bp, n.notified_at
from (select unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start) k
cross join lateral (
    select x.budget_id, x.window_start, x.threshold_bp, x.notified_at
    from fulcrum.budget_notices x
    where x.tenant_id = @tenant_id and x.budget_id = k.budget_id and x.window_start = k.window_start
    offset 0) n;

-- name: WindowModels :many
-- What one window was charged, by model.
select h.model, sum(h.cost_nano)::bigint as cost_nano, sum(h.total_tokens)::bigint as total_tokens, sum(h.input_tokens)::bigint as input_tokens, sum(h.output_tokens)::bigint as output_tokens, sum(h.llm_calls)::bigint as llm_calls, sum(h.tool_calls)::bigint as tool_calls, sum(h.seconds)::bigint as seconds, sum(h.charges)::bigint as charges
from fulcrum.budget_hours h
where h.tenant_id = @tenant_id and h.budget_id = @budget_id and h.hour >= @from_hour and h.window_start = @window_start
group by h.model
order by h.model;

-- name: BudgetSeries :many
-- What a budget was charged, hour by hour. Hours without a charge have no row.
select h.hour, sum(h.cost_nano)::bigint as cost_nano, sum(h.total_tokens)::bigint as total_tokens, sum(h.input_tokens)::bigint as input_tokens, sum(h.output_tokens)::bigint as output_tokens, sum(h.llm_calls)::bigint as llm_calls, sum(h.tool_calls)::bigint as tool_calls, sum(h.seconds)::bigint as seconds, sum(h.charges)::bigint as charges
from fulcrum.budget_hours h
where h.tenant_id = @tenant_id and h.budget_id = @budget_id and h.hour >= @from_hour
group by h.hour
order by h.hour;

-- name: CallSizes :many
-- The distribution over the days, a row for each cell of it.
select c.model, c.input_bucket, c.output_bucket, sum(c.calls)::bigint as calls, sum(c.input_tokens)::bigint as input_tokens,
    sum(c.output_tokens)::bigint as output_tokens, sum(c.cost_nano)::bigint as cost_nano, sum(c.seconds)::bigint as seconds
from fulcrum.call_sizes c
where c.tenant_id = @tenant_id and c.day >= @from_day
  and (@workflow_id::text = '' or c.workflow_id = @workflow_id)
  and (cardinality(@models::text[]) = 0 or c.model = any (@models::text[]))
group by c.model, c.input_bucket, c.output_bucket
order by c.model, c.input_bucket, c.output_bucket;

-- name: Runs :many
-- What the latest runs of workflows cost, a row for each of up to lim workflows
-- that come after one and ran since from. A run is an envelope; of one workflow
-- no more than sample rows are looked at.
with recursive walk(workflow_id) as (
    (select c.workflow_id from fulcrum.envelope_costs c
     where c.tenant_id = @tenant_id and c.workflow_id > @after::text order by c.workflow_id limit 1)
    union all
    select (select c.workflow_id from fulcrum.envelope_costs c
            where c.tenant_id = @tenant_id and c.workflow_id > walk.workflow_id order by c.workflow_id limit 1)
    from walk where walk.workflow_id is not null
)
select w.workflow_id::text as workflow_id, r.runs::bigint as runs, r.mean_nano::double precision as mean_nano,
    r.deviation_nano::double precision as deviation_nano, r.mean_tokens::double precision as mean_tokens, r.since::timestamptz as since
from walk w
cross join lateral (
    select count(*) as runs, avg(e.cost_nano) as mean_nano, coalesce(stddev_samp(e.cost_nano), 0) as deviation_nano,
        avg(e.total_tokens) as mean_tokens, min(e.started_at) as since
    from (
        select sum(x.cost_nano) as cost_nano, sum(x.total_tokens) as total_tokens, min(x.started_at) as started_at
        from (
            select c.envelope_id, c.cost_nano, c.total_tokens, c.started_at
            from fulcrum.envelope_costs c
            where c.tenant_id = @tenant_id and c.workflow_id = w.workflow_id and c.started_at >= @from_time
            order by c.started_at desc
            limit @sample) x
        group by x.envelope_id) e
    having count(*) > 0) r
where w.workflow_id is not null
limit @lim;

-- name: RunsOf :one
-- The same of one workflow, which may be the one without a name.
select count(*)::bigint as runs, coalesce(avg(e.cost_nano), 0)::double precision as mean_nano,
    coalesce(stddev_samp(e.cost_nano), 0)::double precision as deviation_nano, coalesce(avg(e.total_tokens), 0)::double precision as mean_tokens,
    coalesce(min(e.started_at), now())::timestamptz as since
from (
    select sum(x.cost_nano) as cost_nano, sum(x.total_tokens) as total_tokens, min(x.started_at) as started_at
    from (
        select c.envelope_id, c.cost_nano, c.total_tokens, c.started_at
        from fulcrum.envelope_costs c
        where c.tenant_id = @tenant_id and c.workflow_id = @workflow_id and c.started_at >= @from_time
        order by c.started_at desc
        limit @sample) x
    group by x.envelope_id) e;

-- name: CorrectBudgetHours :exec
-- Adds to the hours that the charges were added to, as CorrectSpend does. Limits
-- of an envelope have no hours.
with d as (
    select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@charged_at::timestamptz[]) as charged_at, unnest(@budget_ids::text[]) as budget_id,
        unnest(@window_starts::timestamptz[]) as window_start, unnest(@models::text[]) as model, unnest(@deltas::bigint[]) as delta
), sums as (
    select d.tenant_id, d.budget_id, h.hour, d.window_start, d.model, sum(d.delta)::bigint as delta
    from d
    cross join lateral (
        select x.hour from fulcrum.budget_hours x
        where x.tenant_id = d.tenant_id and x.budget_id = d.budget_id and x.hour <= d.charged_at and x.hour > d.charged_at - interval '1 hour'
          and x.window_start = d.window_start and x.model = d.model
        order by x.hour desc
        limit 1) h
    group by 1, 2, 3, 4, 5
), locked as (
    select t.tenant_id, t.budget_id, t.hour, t.window_start, t.model, s.delta
    from fulcrum.budget_hours t
    join sums s on s.tenant_id = t.tenant_id and s.budget_id = t.budget_id and s.hour = t.hour and s.window_start = t.window_start and s.model = t.model
    order by t.tenant_id, t.budget_id, t.hour, t.window_start, t.model
    for update of t
)
update fulcrum.budget_hours t set cost_nano = t.cost_nano + l.delta
from locked l
where t.tenant_id = l.tenant_id and t.budget_id = l.budget_id and t.hour = l.hour and t.window_start = l.window_start and t.model = l.model;
