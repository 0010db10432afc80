-- name: PlanForTheseValues :exec
-- The filters below are optional; a plan made for all values at once could not
-- choose an index by those that are given, nor leave partitions out.
select set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: EventsAfter :many
select stream_sequence, stored_at, event_id, sequence_number, type, occurred_at, execution_id, envelope_id, workflow_id,
       payload, labels, trace_id, span_id
from fulcrum.events
where tenant_id = @tenant_id
  and stream_sequence > @after and stream_sequence <= @up_to
  and (@execution_key::text = '' or execution_key = @execution_key)
  and (@workflow_id::text = '' or workflow_id = @workflow_id)
  and (@type::text = '' or type = @type)
  and (sqlc.narg(from_time)::timestamptz is null or occurred_at >= sqlc.narg(from_time))
  and (sqlc.narg(to_time)::timestamptz is null or occurred_at < sqlc.narg(to_time))
  and (@labels::jsonb = '{}' or labels @> @labels)
order by stream_sequence
limit @lim;

-- name: EventsBefore :many
select stream_sequence, stored_at, event_id, sequence_number, type, occurred_at, execution_id, envelope_id, workflow_id,
       payload, labels, trace_id, span_id
from fulcrum.events
where tenant_id = @tenant_id
  and stream_sequence < @before
  and (@execution_key::text = '' or execution_key = @execution_key)
  and (@workflow_id::text = '' or workflow_id = @workflow_id)
  and (@type::text = '' or type = @type)
  and (sqlc.narg(from_time)::timestamptz is null or occurred_at >= sqlc.narg(from_time))
  and (sqlc.narg(to_time)::timestamptz is null or occurred_at < sqlc.narg(to_time))
  and (@labels::jsonb = '{}' or labels @> @labels)
order by stream_sequence desc
limit @lim;

-- name: CountEvents :one
-- Counts no further than the limit.
select count(*) from (
    select 1 from fulcrum.events
    where tenant_id = @tenant_id
      and (@execution_key::text = '' or execution_key = @execution_key)
      and (@workflow_id::text = '' or workflow_id = @workflow_id)
      and (@type::text = '' or type = @type)
      and (sqlc.narg(from_time)::timestamptz is null or occurred_at >= sqlc.narg(from_time))
      and (sqlc.narg(to_time)::timestamptz is null or occurred_at < sqlc.narg(to_time))
      and (@labels::jsonb = '{}' or labels @> @labels)
    limit @lim
) matching;

-- name: ExecutionEvents :many
select stream_sequence, stored_at, event_id, sequence_number, type, occurred_at, execution_id, envelope_id, workflow_id,
       payload, labels, trace_id, span_id
from fulcrum.events
where tenant_id = @tenant_id and execution_key = @execution_key and sequence_number > @after
  and (@type::text = '' or type = @type)
  and (sqlc.narg(from_time)::timestamptz is null or occurred_at >= sqlc.narg(from_time))
  and (sqlc.narg(to_time)::timestamptz is null or occurred_at < sqlc.narg(to_time))
order by sequence_number
limit @lim;

-- name: Execution :one
select last_sequence, started_at, ended_at from fulcrum.execution_sequences
where tenant_id = @tenant_id and execution_key = @execution_key;

-- name: Heads :many
select tenant_id, last_sequence from fulcrum.event_heads
where tenant_id = any(@tenant_ids::uuid[]);

-- name: SequenceBefore :one
-- The last position stored before a time; 0 if none. Times grow with positions,
-- so this halves its way there; positions no longer kept are older than any time.
with recursive search(lo, hi) as (
    select 0::bigint, h.last_sequence from fulcrum.event_heads h where h.tenant_id = @tenant_id
    union all
    select case when step.older then step.mid else step.lo end, case when step.older then step.hi else step.mid - 1 end
    from (
        select s.lo, s.hi, (s.lo + s.hi + 1) / 2 as mid,
               coalesce((select e.stored_at < @stored_before::timestamptz from fulcrum.events e
                         where e.tenant_id = @tenant_id and e.stream_sequence = (s.lo + s.hi + 1) / 2), true) as older
        from search s where s.lo < s.hi
    ) step
)
select coalesce((select search.lo from search where search.lo >= search.hi), 0)::bigint as stream_sequence;

-- name: OldestStored :one
select stored_at from fulcrum.events
where tenant_id = @tenant_id
order by stream_sequence
limit 1;

-- name: Totals :many
select type, sum(events)::bigint as events, sum(bytes)::bigint as bytes,
       min(oldest)::timestamptz as oldest, max(newest)::timestamptz as newest
from fulcrum.event_totals
where tenant_id = @tenant_id and month >= @since
group by type;
