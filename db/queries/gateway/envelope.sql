-- name: InsertEnvelopes :exec
insert into fulcrum.envelopes (
    tenant_id, id, parent_id, root_id, ancestors, status, status_reason, agent_id, team, user_id, key_id, workflow_id, execution_id,
    budget_id, adapter_type, governance, limits, metadata, trace_context, expires_at, completed_at)
select i.tenant_id, i.id, nullif(i.parent_id, '00000000-0000-0000-0000-000000000000'), i.root_id,
       string_to_array(i.ancestors, ',')::uuid[], i.status, i.status_reason, i.agent_id, i.team, i.user_id, i.key_id,
       i.workflow_id, i.execution_id, i.budget_id, i.adapter_type, i.governance, i.limits,
       i.metadata::jsonb, i.trace_context::jsonb,
       nullif(i.expires_at, '9999-12-31 00:00:00Z'),
       case when fulcrum.envelope_is_final(i.status) then now() end
  from (select unnest(@tenant_ids::uuid[]) as tenant_id,
               unnest(@ids::uuid[]) as id,
               unnest(@parent_ids::uuid[]) as parent_id,
               unnest(@root_ids::uuid[]) as root_id,
               unnest(@ancestors::text[]) as ancestors,
               unnest(@statuses::text[]) as status,
               unnest(@status_reasons::text[]) as status_reason,
               unnest(@agent_ids::text[]) as agent_id,
               unnest(@teams::text[]) as team,
               unnest(@user_ids::text[]) as user_id,
               unnest(@key_ids::text[]) as key_id,
               unnest(@workflow_ids::text[]) as workflow_id,
               unnest(@execution_ids::text[]) as execution_id,
               unnest(@budget_ids::text[]) as budget_id,
               unnest(@adapter_types::text[]) as adapter_type,
               unnest(@governances::bytea[]) as governance,
               unnest(@limits::bytea[]) as limits,
               unnest(@metadatas::text[]) as metadata,
               unnest(@trace_contexts::text[]) as trace_context,
               unnest(@expires_ats::timestamptz[]) as expires_at) i;

-- name: CountDescendant :many
-- The root's row counts its tree, and lends the lock that keeps the count true.
-- No row: the tree is full.
update fulcrum.envelopes
   set descendants = descendants + 1
 where tenant_id = @tenant_id and id = @root_id and descendants < 100
returning descendants;

-- name: MoveEnvelopes :many
-- Moves what may move; the rest is not returned. Locks in id order first, so
-- that two batches never wait for each other.
with input as (
    select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id,
           unnest(@statuses::text[]) as status, unnest(@reasons::text[]) as reason
), locked as materialized (
    select e.tenant_id, e.id, e.status as old_status
      from fulcrum.envelopes e
      join input i on i.tenant_id = e.tenant_id and i.id = e.id
     where e.tenant_id = any(@tenant_ids::uuid[])
     order by e.tenant_id, e.id
       for update of e
)
update fulcrum.envelopes e
   set status = i.status, status_reason = i.reason, version = e.version + 1, updated_at = now(),
       completed_at = case when fulcrum.envelope_is_final(i.status) then now() end,
       holds_open = fulcrum.envelope_is_final(i.status)
  from locked l
  join input i on i.tenant_id = l.tenant_id and i.id = l.id
 where e.tenant_id = any(@tenant_ids::uuid[])
   and e.tenant_id = l.tenant_id and e.id = l.id
   and fulcrum.envelope_may_move(e.status, i.status)
returning e.tenant_id, e.id, e.root_id, l.old_status, e.status, e.status_reason, e.workflow_id, e.execution_id, e.agent_id, e.team, e.key_id;

-- name: EndDescendants :many
-- Ends everything below envelopes that were ended by force.
update fulcrum.envelopes e
   set status = 'TERMINATED', status_reason = i.reason, version = e.version + 1, updated_at = now(),
       completed_at = now(), holds_open = true
  from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id,
               unnest(@root_ids::uuid[]) as root_id, unnest(@reasons::text[]) as reason) i
 where e.tenant_id = any(@tenant_ids::uuid[])
   and e.tenant_id = i.tenant_id and e.root_id = i.root_id and e.parent_id is not null
   and i.id = any(e.ancestors)
   and fulcrum.envelope_may_move(e.status, 'TERMINATED')
returning e.tenant_id, e.id, e.root_id, e.status, e.status_reason, e.workflow_id, e.execution_id, e.agent_id, e.team, e.key_id;

-- name: GetEnvelope :one
select id, parent_id, root_id, ancestors, descendants, status, status_reason, agent_id, team, user_id, key_id, workflow_id, execution_id,
       budget_id, adapter_type, governance, limits, metadata, trace_context, version, expires_at, created_at, updated_at, completed_at,
       coalesce(expires_at <= now(), false)::boolean as overdue, now()::timestamptz as db_now
  from fulcrum.envelopes
 where tenant_id = @tenant_id and id = @id;

-- name: ListEnvelopes :many
select id, parent_id, status, status_reason, agent_id, team, workflow_id, execution_id,
       budget_id, adapter_type, governance, metadata, trace_context, created_at, updated_at, completed_at
  from fulcrum.envelopes
 where tenant_id = @tenant_id
   and (created_at, id) < (@before_at::timestamptz, @before_id::uuid)
   and (@status::text = '' or status = @status::text)
   and (@workflow_id::text = '' or workflow_id = @workflow_id::text)
   and (@agent_id::text = '' or agent_id = @agent_id::text)
 order by created_at desc, id desc
 limit @lim::integer;

-- name: EnvelopesByExecution :many
select id, status
  from fulcrum.envelopes
 where tenant_id = @tenant_id and execution_id = @execution_id
 order by created_at
 limit 10;

-- name: OverdueEnvelopes :many
select id
  from fulcrum.envelopes
 where tenant_id = @tenant_id and expires_at <= now()
   and status in ('PENDING', 'AUTHORIZED', 'RUNNING', 'PAUSED')
 order by id
 limit 200;

-- name: EnvelopesWithOpenHolds :many
select id, status, status_reason
  from fulcrum.envelopes
 where tenant_id = @tenant_id and holds_open
 order by id
 limit 100;

-- name: CloseHolds :exec
update fulcrum.envelopes set holds_open = false
 where tenant_id = @tenant_id and id = @id and holds_open;
