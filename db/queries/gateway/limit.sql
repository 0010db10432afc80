-- name: PlanByIndex :exec
-- The statements below find few rows among many by their keys. Planned while
-- the tables were empty, or by guesses about arrays, they would read them whole.
select set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);

-- name: LockCounters :many
-- Locks counters in one order everywhere, and makes those that are not there.
-- When they were touched is told roughly, so that most locks change no index.
insert into fulcrum.limit_counters as c (tenant_id, id, label, envelope_id, touched_at)
select i.tenant_id, i.id, i.label, nullif(i.envelope_id, '00000000-0000-0000-0000-000000000000'), clock_timestamp()
  from (select unnest(@tenant_ids::uuid[]) as tenant_id,
               unnest(@ids::uuid[]) as id,
               unnest(@labels::text[]) as label,
               unnest(@envelope_ids::uuid[]) as envelope_id) i
 order by i.tenant_id, i.id
on conflict (tenant_id, id) do update
   set touched_at = case when c.touched_at < excluded.touched_at - interval '10 minutes' then excluded.touched_at else c.touched_at end
 where c.tenant_id = any(@tenant_ids::uuid[])
returning c.tenant_id, c.id, c.taken;

-- name: LapseEntries :many
-- Drops what counts no more of locked counters, and returns how much that was.
select f.tenant_id::uuid as tenant_id, f.id::uuid as id, f.at::timestamptz as now, f.lapsed::bigint as lapsed
  from fulcrum.lapse_limits(@tenant_ids::uuid[], @ids::uuid[]) as f (tenant_id, id, at, lapsed);

-- name: InsertLimitEntries :exec
-- Until is so many seconds from now on, or the end of a piece of the calendar,
-- or, with neither, forever.
insert into fulcrum.limit_entries (tenant_id, decision_id, counter_id, envelope_id, unit, amount, keep, taken_at, until)
select i.tenant_id, i.decision_id, i.counter_id, nullif(i.envelope_id, '00000000-0000-0000-0000-000000000000'), i.unit, i.amount, i.keep, i.taken_at,
       case when i.piece <> '' then (date_trunc(i.piece, i.taken_at at time zone i.zone) + ('1 ' || i.piece)::interval) at time zone i.zone
            when i.seconds > 0 then i.taken_at + make_interval(secs => i.seconds)
            else 'infinity' end
  from (select unnest(@tenant_ids::uuid[]) as tenant_id,
               unnest(@decision_ids::uuid[]) as decision_id,
               unnest(@counter_ids::uuid[]) as counter_id,
               unnest(@envelope_ids::uuid[]) as envelope_id,
               unnest(@units::text[]) as unit,
               unnest(@amounts::bigint[]) as amount,
               unnest(@keeps::boolean[]) as keep,
               @taken_at::timestamptz as taken_at,
               unnest(@seconds::bigint[]) as seconds,
               unnest(@pieces::text[]) as piece,
               unnest(@zones::text[]) as zone) i;

-- name: CountLimits :exec
select fulcrum.count_limits(@tenant_ids::uuid[], @ids::uuid[], @deltas::bigint[]);

-- name: EntriesOfDecisions :many
-- Which counters decisions count on: to lock them before anything changes.
select i.tenant_id::uuid as tenant_id, l.counter_id
  from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@decision_ids::uuid[]) as decision_id) i
 cross join lateral (
       select e.counter_id from fulcrum.limit_entries e
        where e.tenant_id = i.tenant_id and e.decision_id = i.decision_id offset 0) l;

-- name: EndEntries :many
-- Frees the slots of decisions and, of those whose action did not happen, all
-- that is not kept.
select f.tenant_id::uuid as tenant_id, f.id::uuid as counter_id, f.amount::bigint as amount
  from fulcrum.end_limits(@tenant_ids::uuid[], @decision_ids::uuid[], @undones::boolean[]) as f (tenant_id, id, amount);

-- name: ChargeEntries :many
-- Puts what was really used in the place of what it might have been.
select f.tenant_id::uuid as tenant_id, f.id::uuid as counter_id, f.delta::bigint as delta
  from fulcrum.charge_limits(@tenant_ids::uuid[], @decision_ids::uuid[], @usds::bigint[], @tokens::bigint[]) as f (tenant_id, id, delta);

-- name: RoomComes :many
-- When the first entry of a full counter counts no more.
select i.tenant_id::uuid as tenant_id, i.id::uuid as id, x.until
  from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id) i
 cross join lateral (
       select e.until from fulcrum.limit_entries e
        where e.tenant_id = i.tenant_id and e.counter_id = i.id
        order by e.until limit 1) x
 where x.until < 'infinity';

-- name: Counted :many
select c.id,
       (c.taken - coalesce((select sum(e.amount) from fulcrum.limit_entries e
                             where e.tenant_id = c.tenant_id and e.counter_id = c.id and e.until <= now()), 0))::bigint as counted
  from fulcrum.limit_counters c
 where c.tenant_id = @tenant_id and c.id = any(@ids::uuid[]);

-- name: RenewSlots :many
update fulcrum.limit_entries
   set until = greatest(until, now() + make_interval(secs => @seconds::double precision))
 where tenant_id = @tenant_id and decision_id = @decision_id and unit = 'slot' and until > now()
returning until;

-- name: LimitTenants :many
select fulcrum.gateway_limit_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: IdleCounters :many
-- Counters that count something and were not asked for ten minutes.
select id
  from fulcrum.limit_counters
 where tenant_id = @tenant_id and touched_at <= now() - interval '10 minutes' and taken > 0
 order by touched_at
 limit 100;

-- name: CountersOfSlots :many
select counter_id
  from fulcrum.limit_entries
 where tenant_id = @tenant_id and unit = 'slot' and envelope_id = @envelope_id::uuid
 group by counter_id
 order by counter_id;

-- name: EndSlots :many
delete from fulcrum.limit_entries
 where tenant_id = @tenant_id and unit = 'slot' and envelope_id = @envelope_id::uuid
returning tenant_id, counter_id, amount;

-- name: EndMarks :many
-- Drops the marks of envelopes that have ended with everything below them:
-- nothing can happen there any more.
delete from fulcrum.limit_entries e
 using fulcrum.limit_counters c
 where c.tenant_id = @tenant_id and c.id = any(@ids::uuid[]) and c.envelope_id is not null
   and e.tenant_id = @tenant_id and e.counter_id = c.id and e.unit = 'mark'
   and not exists (select from fulcrum.envelopes v
                    where v.tenant_id = @tenant_id and (v.id = c.envelope_id or v.root_id = c.envelope_id and v.parent_id is not null)
                      and not fulcrum.envelope_is_final(v.status))
returning e.counter_id, e.amount;

-- name: DropIdleCounters :execrows
-- A decision that counts on one of them meanwhile touches it, and it stays.
delete from fulcrum.limit_counters c
 where c.tenant_id = @tenant_id and c.touched_at <= now() - interval '1 hour'
   and not exists (select from fulcrum.limit_entries e where e.tenant_id = c.tenant_id and e.counter_id = c.id);
