-- name: LoadAction :one
-- Everything a decision starts from, in one round trip. Absent parts are null.
select now()::timestamptz as db_now,
       (k.key is not null)::boolean as key_found,
       coalesce(k.expires_at > now(), false)::boolean as key_live,
       coalesce(k.request_hash, ''::bytea)::bytea as key_hash,
       coalesce(k.response, ''::bytea)::bytea as key_response,
       (k.response is not null)::boolean as key_answered,
       coalesce(k.attempt, 0)::integer as key_attempt,
       (e.id is not null)::boolean as envelope_found,
       coalesce(e.parent_id, '00000000-0000-0000-0000-000000000000')::uuid as parent_id,
       coalesce(e.root_id, '00000000-0000-0000-0000-000000000000')::uuid as root_id,
       coalesce(e.ancestors, '{}')::uuid[] as ancestors,
       coalesce(r.descendants, 0)::integer as root_descendants,
       coalesce(e.status, '')::text as status,
       coalesce(e.status_reason, '')::text as status_reason,
       coalesce(e.expires_at <= now(), false)::boolean as overdue,
       e.expires_at as envelope_expires_at,
       coalesce(e.agent_id, '')::text as agent_id,
       coalesce(e.team, '')::text as team,
       coalesce(e.user_id, '')::text as user_id,
       coalesce(e.workflow_id, '')::text as workflow_id,
       coalesce(e.execution_id, '')::text as execution_id,
       coalesce(e.budget_id, '')::text as budget_id,
       coalesce(e.governance, ''::bytea)::bytea as governance,
       coalesce(e.limits, ''::bytea)::bytea as limits,
       coalesce(e.metadata, '{}')::jsonb as metadata,
       (a.id is not null)::boolean as approval_found,
       coalesce(a.state, '')::text as approval_state,
       coalesce(a.digest, ''::bytea)::bytea as approval_digest,
       coalesce(a.policy_set_version, 0)::bigint as approval_version,
       coalesce(a.expires_at <= now(), false)::boolean as approval_overdue,
       coalesce(a.expires_at, now())::timestamptz as approval_expires_at,
       coalesce(a.quorum, 0)::integer as approval_quorum,
       coalesce(a.roles, '{}')::text[] as approval_roles,
       coalesce(a.reviewer_id, '')::text as approval_reviewer,
       coalesce(a.review_note, '')::text as approval_note
  from (select 1 as n) one
  left join fulcrum.idempotency_keys k
    on k.tenant_id = @tenant_id and k.scope = @scope and k.key = @key
  left join fulcrum.envelopes e
    on e.tenant_id = @tenant_id and e.id = @envelope_id
  left join fulcrum.envelopes r
    on r.tenant_id = @tenant_id and r.id = e.root_id
  left join fulcrum.approvals a
    on a.tenant_id = @tenant_id and a.id = @approval_id;

-- name: ClaimKeys :many
-- Takes the keys that are free: new ones, expired ones, and ones whose last
-- attempt was given up and counted. A key whose envelope has been ended in the
-- meantime is not taken. What is not returned was not taken.
with input as (
    select unnest(@tenant_ids::uuid[]) as tenant_id,
           unnest(@scopes::text[]) as scope,
           unnest(@keys::text[]) as key,
           unnest(@hashes::bytea[]) as request_hash,
           unnest(@responses::bytea[]) as response,
           unnest(@attempts::integer[]) as attempt,
           unnest(@open_envelopes::uuid[]) as envelope_id
)
insert into fulcrum.idempotency_keys as k (tenant_id, scope, key, request_hash, response, attempt)
select i.tenant_id, i.scope, i.key, i.request_hash, i.response, i.attempt
  from input i
 where i.envelope_id = '00000000-0000-0000-0000-000000000000'
    or exists (select from fulcrum.envelopes e
                where e.tenant_id = any(@tenant_ids::uuid[]) and e.tenant_id = i.tenant_id and e.id = i.envelope_id
                  and e.status in ('AUTHORIZED', 'RUNNING') and (e.expires_at is null or e.expires_at > now()))
 order by i.tenant_id, i.scope, i.key
on conflict (tenant_id, scope, key) do update
   set request_hash = excluded.request_hash, response = excluded.response, attempt = excluded.attempt,
       created_at = now(), expires_at = now() + interval '24 hours'
 where k.tenant_id = any(@tenant_ids::uuid[])
   and (k.expires_at <= now() or (k.response is null and k.attempt = excluded.attempt))
returning k.tenant_id, k.scope, k.key;

-- name: FindKeys :many
select k.tenant_id, k.scope, k.key, k.request_hash, coalesce(k.response, ''::bytea)::bytea as response,
       (k.response is not null)::boolean as answered, k.attempt
  from fulcrum.idempotency_keys k
  join (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@scopes::text[]) as scope, unnest(@keys::text[]) as key) i
    on i.tenant_id = k.tenant_id and i.scope = k.scope and i.key = k.key
 where k.tenant_id = any(@tenant_ids::uuid[]) and k.expires_at > now();

-- name: GiveUpKey :one
-- Marks an attempt as given up, so that nobody can record it any more, and
-- returns the number of the next one. No row: somebody recorded it.
insert into fulcrum.idempotency_keys as k (tenant_id, scope, key, request_hash, attempt)
values (@tenant_id, @scope, @key, @request_hash, @next_attempt)
on conflict (tenant_id, scope, key) do update
   set attempt = greatest(k.attempt, excluded.attempt), request_hash = excluded.request_hash,
       response = null, created_at = now(), expires_at = now() + interval '24 hours'
 where k.tenant_id = @tenant_id and (k.response is null or k.expires_at <= now())
returning k.attempt;

-- name: DropKey :exec
delete from fulcrum.idempotency_keys
 where tenant_id = @tenant_id and scope = @scope and key = @key;

-- name: DropStaleKeys :execrows
delete from fulcrum.idempotency_keys k
 where k.tenant_id = @tenant_id
   and (k.tenant_id, k.scope, k.key) in (
        select s.tenant_id, s.scope, s.key from fulcrum.idempotency_keys s
         where s.tenant_id = @tenant_id and s.expires_at <= now() limit 1000);

-- name: StaleKeyTenants :many
select fulcrum.gateway_stale_key_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: DueTenants :many
select fulcrum.gateway_due_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: InsertKeys :exec
-- Takes keys that must all be new and whose envelopes must all still be open:
-- otherwise it fails, with 23505 or 23502, and nothing of its batch happens.
insert into fulcrum.idempotency_keys (tenant_id, scope, key, request_hash, response, attempt)
select i.tenant_id, i.scope, i.key,
       case when i.envelope_id = '00000000-0000-0000-0000-000000000000'
              or exists (select from fulcrum.envelopes e
                          where e.tenant_id = any(@tenant_ids::uuid[]) and e.tenant_id = i.tenant_id and e.id = i.envelope_id
                            and e.status in ('AUTHORIZED', 'RUNNING') and (e.expires_at is null or e.expires_at > now()))
            then i.request_hash end,
       i.response, i.attempt
  from (select unnest(@tenant_ids::uuid[]) as tenant_id,
               unnest(@scopes::text[]) as scope,
               unnest(@keys::text[]) as key,
               unnest(@hashes::bytea[]) as request_hash,
               unnest(@responses::bytea[]) as response,
               unnest(@attempts::integer[]) as attempt,
               unnest(@open_envelopes::uuid[]) as envelope_id) i
 order by i.tenant_id, i.scope, i.key;

-- name: PlanOnce :exec
-- Statements over arrays look cheaper to plan anew each time than they are.
select set_config('plan_cache_mode', 'force_generic_plan', true);
