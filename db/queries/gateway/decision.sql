-- name: InsertDecisions :exec
insert into fulcrum.decisions (
    tenant_id, id, method, decision, envelope_id, parent_id, agent_id, team, user_id, key_id, workflow_id,
    action_kind, action_name, model, reservation_id, held, cost_nano, approval_id, policy_set_version, policy_ids,
    degraded, evaluated_us, input, result, response, shadowed)
select i.tenant_id, i.id, i.method, i.decision,
       nullif(i.envelope_id, '00000000-0000-0000-0000-000000000000'),
       nullif(i.parent_id, '00000000-0000-0000-0000-000000000000'),
       i.agent_id, i.team, i.user_id, i.key_id, i.workflow_id, i.action_kind, i.action_name, i.model,
       nullif(i.reservation_id, '00000000-0000-0000-0000-000000000000'),
       i.held, i.cost_nano,
       nullif(i.approval_id, '00000000-0000-0000-0000-000000000000'),
       i.policy_set_version, string_to_array(i.policy_ids, ','), i.degraded, i.evaluated_us, i.input, i.result, i.response,
       position('shadow:' in i.policy_ids) > 0
  from (select unnest(@tenant_ids::uuid[]) as tenant_id,
               unnest(@ids::uuid[]) as id,
               unnest(@methods::text[]) as method,
               unnest(@decisions::text[]) as decision,
               unnest(@envelope_ids::uuid[]) as envelope_id,
               unnest(@parent_ids::uuid[]) as parent_id,
               unnest(@agent_ids::text[]) as agent_id,
               unnest(@teams::text[]) as team,
               unnest(@user_ids::text[]) as user_id,
               unnest(@key_ids::text[]) as key_id,
               unnest(@workflow_ids::text[]) as workflow_id,
               unnest(@action_kinds::text[]) as action_kind,
               unnest(@action_names::text[]) as action_name,
               unnest(@models::text[]) as model,
               unnest(@reservation_ids::uuid[]) as reservation_id,
               unnest(@helds::boolean[]) as held,
               unnest(@cost_nanos::bigint[]) as cost_nano,
               unnest(@approval_ids::uuid[]) as approval_id,
               unnest(@policy_set_versions::bigint[]) as policy_set_version,
               unnest(@policy_ids::text[]) as policy_ids,
               unnest(@degradeds::boolean[]) as degraded,
               unnest(@evaluated_uss::bigint[]) as evaluated_us,
               unnest(@inputs::bytea[]) as input,
               unnest(@results::bytea[]) as result,
               unnest(@responses::bytea[]) as response) i;

-- name: ListDecisions :many
select id, decided_at, method, agent_id, user_id, key_id, workflow_id, input, response
  from fulcrum.decisions
 where tenant_id = @tenant_id
   and method = 'authorize'
   and (decided_at, id) < (@before_at::timestamptz, @before_id::uuid)
   and decided_at >= @start_at::timestamptz
   and decided_at < @end_at::timestamptz
   and (@any_envelope::boolean or envelope_id = @envelope_id::uuid)
   and (@agent_id::text = '' or agent_id = @agent_id::text)
   and (@decision::text = '' or decision = @decision::text)
 order by decided_at desc, id desc
 limit @lim::integer;

-- name: ListEvaluations :many
select id, decided_at, decision, envelope_id, evaluated_us, input, result
  from fulcrum.decisions
 where tenant_id = @tenant_id
   and @policy_id::text = any(policy_ids)
   and (decided_at, id) < (@before_at::timestamptz, @before_id::uuid)
   and decided_at >= @start_at::timestamptz
   and decided_at < @end_at::timestamptz
 order by decided_at desc, id desc
 limit @lim::integer;

-- name: HeldReservations :many
-- Actions of ended envelopes that may still hold something.
select d.reservation_id::uuid as reservation_id, d.id
  from fulcrum.decisions d
 where d.tenant_id = @tenant_id and d.envelope_id = @envelope_id and d.held
   and d.decided_at > now() - interval '2 days';

-- name: LoadDecision :one
-- A decision, and what was answered about it under an idempotency key.
select (d.id is not null)::boolean as found,
       coalesce(d.decided_at, now())::timestamptz as decided_at,
       coalesce(d.method, '')::text as method,
       coalesce(d.envelope_id, '00000000-0000-0000-0000-000000000000')::uuid as envelope_id,
       coalesce(e.root_id, '00000000-0000-0000-0000-000000000000')::uuid as root_id,
       coalesce(d.key_id, '')::text as key_id,
       coalesce(d.team, '')::text as team,
       coalesce(d.reservation_id, '00000000-0000-0000-0000-000000000000')::uuid as reservation_id,
       coalesce(d.approval_id, '00000000-0000-0000-0000-000000000000')::uuid as approval_id,
       coalesce(d.input, ''::bytea)::bytea as input,
       coalesce(d.result, ''::bytea)::bytea as result,
       coalesce(d.response, ''::bytea)::bytea as response,
       (k.key is not null)::boolean as key_found,
       coalesce(k.request_hash, ''::bytea)::bytea as key_hash,
       coalesce(k.response, ''::bytea)::bytea as key_response,
       (k.response is not null)::boolean as key_answered,
       coalesce(k.attempt, 0)::integer as key_attempt
  from (select 1 as n) one
  left join fulcrum.decisions d
    on d.tenant_id = @tenant_id and d.id = @id
   and d.decided_at >= @from_at::timestamptz and d.decided_at <= @to_at::timestamptz
  left join fulcrum.envelopes e
    on e.tenant_id = @tenant_id and e.id = d.envelope_id
  left join fulcrum.idempotency_keys k
    on k.tenant_id = @tenant_id and k.scope = @scope and k.key = @key and k.expires_at > now();

-- name: EnsurePartitions :one
select fulcrum.ensure_partitions('fulcrum.decisions'::regclass)::integer as made;

-- name: RecordedDecisions :many
-- What policies were asked, and what they and we answered.
select id, decided_at, decision, agent_id, action_kind, action_name, model, cost_nano, input, result
  from fulcrum.decisions
 where tenant_id = @tenant_id
   and (decided_at, id) < (@before_at::timestamptz, @before_id::uuid)
   and decided_at >= @start_at::timestamptz
   and decided_at < @end_at::timestamptz
   and length(result) > 0
 order by decided_at desc, id desc
 limit @lim::integer;

-- name: ShadowedDecisions :many
-- The same, of those that a shadow judged too.
select id, decided_at, decision, agent_id, action_kind, action_name, model, cost_nano, input, result
  from fulcrum.decisions
 where tenant_id = @tenant_id
   and shadowed
   and @shadow::text = any(policy_ids)
   and (decided_at, id) < (@before_at::timestamptz, @before_id::uuid)
   and decided_at >= @start_at::timestamptz
   and decided_at < @end_at::timestamptz
 order by decided_at desc, id desc
 limit @lim::integer;
