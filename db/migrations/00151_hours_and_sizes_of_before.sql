-- +goose Up
-- Migrations 00085 to 00087 began to count with the next charge. What was charged
-- before is in the ledger: every window whose hours are not its charges gets
-- them from there, and so does every day of calls that has too few.
alter table fulcrum.settlements no force row level security;
alter table fulcrum.reservations no force row level security;
alter table fulcrum.charge_corrections no force row level security;
alter table fulcrum.spend_rollups no force row level security;
alter table fulcrum.envelope_costs no force row level security;
alter table fulcrum.budget_hours no force row level security;
alter table fulcrum.call_sizes no force row level security;

-- The hour of a charge is that of the summary it went into, by whatever time zone
-- the tenant had then.
create table fulcrum.backfill as
select s.tenant_id, p.budget_id collate "C" as budget_id, h.hour, p.window_start, s.model collate "C" as model, sum(coalesce(c.new_nano, s.cost_nano))::bigint as cost_nano,
    sum(s.total_tokens)::bigint as total_tokens, sum(s.input_tokens)::bigint as input_tokens, sum(s.output_tokens)::bigint as output_tokens,
    sum(s.llm_calls)::bigint as llm_calls, sum(s.tool_calls)::bigint as tool_calls, sum(s.seconds)::bigint as seconds, count(*) as charges
from fulcrum.settlements s
join fulcrum.reservations r on r.tenant_id = s.tenant_id and r.id = s.reservation_id
cross join lateral unnest(r.budget_ids, r.window_starts) p(budget_id, window_start)
cross join lateral (
    select x.hour from fulcrum.spend_rollups x
    where x.tenant_id = s.tenant_id and x.hour <= s.created_at and x.hour > s.created_at - interval '1 hour' and x.workflow_id = r.workflow_id
      and x.team = r.team and x.agent_id = r.agent_id and x.api_key_id = r.api_key_id and x.model = s.model
    order by x.hour desc limit 1) h
left join lateral (
    select x.new_nano from fulcrum.charge_corrections x
    where x.tenant_id = s.tenant_id and x.reservation_id = s.reservation_id order by x.number desc limit 1) c on true
where s.kind = 'settled' and p.budget_id not like 'envelope:%'
group by 1, 2, 3, 4, 5;
delete from fulcrum.backfill b
using (select x.tenant_id, x.budget_id, x.window_start, sum(x.charges) as charges, sum(x.cost_nano) as cost_nano from fulcrum.backfill x group by 1, 2, 3) w
where b.tenant_id = w.tenant_id and b.budget_id = w.budget_id and b.window_start = w.window_start
  and (w.charges, w.cost_nano) = (select sum(h.charges), sum(h.cost_nano) from fulcrum.budget_hours h
      where h.tenant_id = w.tenant_id and h.budget_id = w.budget_id and h.window_start = w.window_start);
delete from fulcrum.budget_hours h
using (select distinct b.tenant_id, b.budget_id, b.window_start from fulcrum.backfill b) w
where h.tenant_id = w.tenant_id and h.budget_id = w.budget_id and h.window_start = w.window_start;
insert into fulcrum.budget_hours (tenant_id, budget_id, hour, window_start, model, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, charges)
select b.tenant_id, b.budget_id, b.hour, b.window_start, b.model, b.cost_nano, b.total_tokens, b.input_tokens, b.output_tokens, b.llm_calls, b.tool_calls, b.seconds, b.charges
from fulcrum.backfill b;
drop table fulcrum.backfill;

-- Calls whose usage was told: of those charged as held, the ones that differ from
-- what was held.
create table fulcrum.backfill as
select s.tenant_id, r.workflow_id collate "C" as workflow_id, s.model collate "C" as model, (h.hour at time zone 'UTC')::date as day,
    case when s.input_tokens < s.llm_calls then -1 else ceil(2 * ln((s.input_tokens / s.llm_calls)::double precision) / ln(2::double precision) - 1e-9) end::smallint as input_bucket,
    case when s.output_tokens < s.llm_calls then -1 else ceil(2 * ln((s.output_tokens / s.llm_calls)::double precision) / ln(2::double precision) - 1e-9) end::smallint as output_bucket,
    sum(s.llm_calls)::bigint as calls, sum(s.input_tokens)::bigint as input_tokens, sum(s.output_tokens)::bigint as output_tokens,
    sum(s.cost_nano)::bigint as cost_nano, sum(s.seconds)::bigint as seconds
from fulcrum.settlements s
join fulcrum.reservations r on r.tenant_id = s.tenant_id and r.id = s.reservation_id
cross join lateral (
    select x.hour from fulcrum.spend_rollups x
    where x.tenant_id = s.tenant_id and x.hour <= s.created_at and x.hour > s.created_at - interval '1 hour' and x.workflow_id = r.workflow_id
      and x.team = r.team and x.agent_id = r.agent_id and x.api_key_id = r.api_key_id and x.model = s.model
    order by x.hour desc limit 1) h
where s.kind = 'settled' and not s.failed and s.model <> '' and s.llm_calls > 0 and s.total_tokens > 0
  and (s.price_version <> 'as-held' or (s.cost_nano, s.input_tokens, s.output_tokens, s.llm_calls, s.tool_calls, s.seconds)
      <> (r.cost_nano, r.input_tokens, r.output_tokens, r.llm_calls, r.tool_calls, r.seconds))
group by 1, 2, 3, 4, 5, 6;
delete from fulcrum.backfill b
using (select x.tenant_id, x.workflow_id, x.model, x.day, sum(x.calls) as calls from fulcrum.backfill x group by 1, 2, 3, 4) w
where b.tenant_id = w.tenant_id and b.workflow_id = w.workflow_id and b.model = w.model and b.day = w.day
  and w.calls <= (select sum(c.calls) from fulcrum.call_sizes c
      where c.tenant_id = w.tenant_id and c.workflow_id = w.workflow_id and c.model = w.model and c.day = w.day);
delete from fulcrum.call_sizes c
using (select distinct b.tenant_id, b.workflow_id, b.model, b.day from fulcrum.backfill b) w
where c.tenant_id = w.tenant_id and c.workflow_id = w.workflow_id and c.model = w.model and c.day = w.day;
insert into fulcrum.call_sizes (tenant_id, workflow_id, model, day, input_bucket, output_bucket, calls, input_tokens, output_tokens, cost_nano, seconds)
select b.tenant_id, b.workflow_id, b.model, b.day, b.input_bucket, b.output_bucket, b.calls, b.input_tokens, b.output_tokens, b.cost_nano, b.seconds
from fulcrum.backfill b;
drop table fulcrum.backfill;

-- An envelope from before took its first charge for a model before the column was
-- there to say so.
update fulcrum.envelope_costs c
set workflow_id = f.workflow_id, started_at = f.started_at
from (select r.tenant_id, r.envelope_id, s.model, max(r.workflow_id) as workflow_id, min(s.created_at) as started_at
    from fulcrum.settlements s
    join fulcrum.reservations r on r.tenant_id = s.tenant_id and r.id = s.reservation_id
    where s.kind = 'settled' and r.envelope_id <> '' group by 1, 2, 3) f
where c.tenant_id = f.tenant_id and c.envelope_id = f.envelope_id and c.model = f.model
  and c.workflow_id = '' and (f.workflow_id <> '' or f.started_at < c.started_at - interval '1 minute');

alter table fulcrum.settlements force row level security;
alter table fulcrum.reservations force row level security;
alter table fulcrum.charge_corrections force row level security;
alter table fulcrum.spend_rollups force row level security;
alter table fulcrum.envelope_costs force row level security;
alter table fulcrum.budget_hours force row level security;
alter table fulcrum.call_sizes force row level security;

-- +goose Down
-- What was counted stays counted.
select 1;
