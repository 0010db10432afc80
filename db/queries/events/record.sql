-- name: KnownEvents :many
-- Which of these are stored already: the inbox forgets in time, events later.
select e.tenant_id, e.event_id
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@event_ids::uuid[]) as event_id) k
join fulcrum.events e on e.tenant_id = k.tenant_id and e.event_id = k.event_id;

-- name: AdvanceHeads :many
-- Takes the row locks in the order of the ids, so that batches never wait for
-- each other in a circle. The times never run backwards, whatever the clock does.
insert into fulcrum.event_heads as h (tenant_id, last_sequence, last_stored_at)
select t.tenant_id, t.events, clock_timestamp()
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@events::bigint[]) as events) t
order by t.tenant_id
on conflict (tenant_id) do update
set last_sequence = h.last_sequence + excluded.last_sequence,
    last_stored_at = greatest(h.last_stored_at, clock_timestamp())
returning h.tenant_id, h.last_sequence, h.last_stored_at;

-- name: AdvanceExecutions :many
insert into fulcrum.execution_sequences as s (tenant_id, execution_key, last_sequence, started_at, ended_at)
select e.tenant_id, e.execution_key, e.events, e.started_at, case when e.ended then e.ended_at end
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@execution_keys::text[]) as execution_key, unnest(@events::bigint[]) as events,
             unnest(@started_at::timestamptz[]) as started_at, unnest(@ended::boolean[]) as ended, unnest(@ended_at::timestamptz[]) as ended_at) e
order by e.tenant_id, e.execution_key collate "C"
on conflict (tenant_id, execution_key) do update
set last_sequence = s.last_sequence + excluded.last_sequence,
    started_at = least(s.started_at, excluded.started_at),
    ended_at = greatest(s.ended_at, excluded.ended_at)
returning s.tenant_id, s.execution_key, s.last_sequence;

-- name: InsertEvents :exec
insert into fulcrum.events (
    tenant_id, stream_sequence, stored_at, event_id, execution_key, sequence_number, type, origin, writer, occurred_at,
    execution_id, envelope_id, workflow_id, actor, action, resource, decision, policy_version, agent_id, team, api_key_id, user_id,
    payload, labels, trace_id, span_id, model, cost_nano, input_tokens, output_tokens, latency_us, size_bytes)
select unnest(@tenant_ids::uuid[]), unnest(@stream_sequences::bigint[]), unnest(@stored_at::timestamptz[]), unnest(@event_ids::uuid[]),
       unnest(@execution_keys::text[]), unnest(@sequence_numbers::bigint[]), unnest(@types::text[]), unnest(@origins::smallint[]),
       unnest(@writers::text[]), unnest(@occurred_at::timestamptz[]), unnest(@execution_ids::text[]), unnest(@envelope_ids::text[]),
       unnest(@workflow_ids::text[]), unnest(@actors::text[]), unnest(@actions::text[]), unnest(@resources::text[]),
       unnest(@decisions::text[]), unnest(@policy_versions::bigint[]), unnest(@agent_ids::text[]), unnest(@teams::text[]),
       unnest(@api_key_ids::text[]), unnest(@user_ids::text[]), unnest(@payloads::text[])::jsonb, unnest(@labels::text[])::jsonb,
       unnest(@trace_ids::text[]), unnest(@span_ids::text[]), unnest(@models::text[]), unnest(@cost_nanos::bigint[]),
       unnest(@input_tokens::bigint[]), unnest(@output_tokens::bigint[]), unnest(@latencies_us::bigint[]), unnest(@sizes::integer[]);

-- name: AddTotals :exec
insert into fulcrum.event_totals as t (tenant_id, month, type, events, bytes, oldest, newest)
select a.tenant_id, a.month, a.type, a.events, a.bytes, a.oldest, a.newest
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@months::timestamptz[]) as month, unnest(@types::text[]) as type,
             unnest(@events::bigint[]) as events, unnest(@bytes::bigint[]) as bytes,
             unnest(@oldest::timestamptz[]) as oldest, unnest(@newest::timestamptz[]) as newest) a
order by a.tenant_id, a.month, a.type collate "C"
on conflict (tenant_id, month, type) do update
set events = t.events + excluded.events, bytes = t.bytes + excluded.bytes,
    oldest = least(t.oldest, excluded.oldest), newest = greatest(t.newest, excluded.newest);
