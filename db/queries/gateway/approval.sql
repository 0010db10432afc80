-- name: InsertApprovals :exec
insert into fulcrum.approvals (
    tenant_id, id, decision_id, envelope_id, digest, policy_set_version, policy_id, policy_name, action_kind, action_name, metadata,
    requested_by_key, requested_by_agent, requested_by_user, quorum, roles, opens_envelope, ttl_seconds, expires_at)
select i.tenant_id, i.id, i.decision_id, nullif(i.envelope_id, '00000000-0000-0000-0000-000000000000'), i.digest, i.policy_set_version,
       i.policy_id, i.policy_name, i.action_kind, i.action_name, i.metadata::jsonb, i.by_key, i.by_agent, i.by_user, i.quorum,
       array(select jsonb_array_elements_text(i.roles::jsonb)), i.opens_envelope, i.ttl_seconds,
       now() + make_interval(secs => i.ttl_seconds)
  from (select unnest(@tenant_ids::uuid[]) as tenant_id,
               unnest(@ids::uuid[]) as id,
               unnest(@decision_ids::uuid[]) as decision_id,
               unnest(@envelope_ids::uuid[]) as envelope_id,
               unnest(@digests::bytea[]) as digest,
               unnest(@policy_set_versions::bigint[]) as policy_set_version,
               unnest(@policy_ids::text[]) as policy_id,
               unnest(@policy_names::text[]) as policy_name,
               unnest(@action_kinds::text[]) as action_kind,
               unnest(@action_names::text[]) as action_name,
               unnest(@metadatas::text[]) as metadata,
               unnest(@by_keys::text[]) as by_key,
               unnest(@by_agents::text[]) as by_agent,
               unnest(@by_users::text[]) as by_user,
               unnest(@quorums::integer[]) as quorum,
               unnest(@roles::text[]) as roles,
               unnest(@opens_envelopes::boolean[]) as opens_envelope,
               unnest(@ttl_seconds::integer[]) as ttl_seconds) i;

-- name: ConsumeApprovals :many
-- Uses approvals up: granted, in time, for exactly this action, and once.
update fulcrum.approvals a
   set state = 'CONSUMED', consumed_by = i.decision_id, version = a.version + 1, updated_at = now()
  from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as id,
               unnest(@digests::bytea[]) as digest, unnest(@decision_ids::uuid[]) as decision_id) i
 where a.tenant_id = any(@tenant_ids::uuid[])
   and a.tenant_id = i.tenant_id and a.id = i.id and a.digest = i.digest
   and a.state = 'APPROVED' and a.expires_at > now()
returning a.tenant_id, a.id, a.consumed_by::uuid as decision_id;

-- name: CancelApprovals :many
update fulcrum.approvals a
   set state = 'CANCELLED', version = a.version + 1, updated_at = now()
 where a.tenant_id = any(@tenant_ids::uuid[])
   and (a.tenant_id, a.envelope_id) in (select unnest(@of_tenants::uuid[]), unnest(@envelope_ids::uuid[]))
   and a.state in ('PENDING', 'APPROVED')
returning a.tenant_id, a.id, a.envelope_id::uuid as envelope_id, a.decision_id, a.action_kind, a.action_name, a.digest, a.quorum,
          a.requested_by_key, a.requested_by_agent, a.requested_by_user;

-- name: LockApproval :one
select id, decision_id, envelope_id, state, quorum, roles, requested_by_key, requested_by_agent, requested_by_user, opens_envelope,
       action_kind, action_name, digest, policy_id, policy_name,
       (expires_at <= now())::boolean as overdue
  from fulcrum.approvals
 where tenant_id = @tenant_id and id = @id
   for update;

-- name: InsertVote :execrows
insert into fulcrum.approval_votes (tenant_id, approval_id, reviewer_id, verdict, note)
values (@tenant_id, @approval_id, @reviewer_id, @verdict, @note)
on conflict (tenant_id, approval_id, reviewer_id) do nothing;

-- name: GetVote :one
select verdict
  from fulcrum.approval_votes
 where tenant_id = @tenant_id and approval_id = @approval_id and reviewer_id = @reviewer_id;

-- name: CountVotes :one
select count(*)
  from fulcrum.approval_votes
 where tenant_id = @tenant_id and approval_id = @approval_id and verdict = 'APPROVED';

-- name: ResolveApproval :exec
-- A granted approval is good for its time to live from now on.
update fulcrum.approvals
   set state = @state::text, reviewer_id = @reviewer_id, review_note = @review_note, version = version + 1, updated_at = now(),
       expires_at = case when @state::text = 'APPROVED' then now() + make_interval(secs => ttl_seconds) else expires_at end
 where tenant_id = @tenant_id and id = @id and state = 'PENDING' and expires_at > now();

-- name: GetApproval :one
select id, decision_id, envelope_id, policy_id, policy_name, policy_set_version, action_kind, action_name, metadata, state, reviewer_id,
       review_note, quorum, roles, version, created_at, updated_at, expires_at,
       (state in ('PENDING', 'APPROVED') and expires_at <= now())::boolean as overdue,
       (select count(*) from fulcrum.approval_votes v
         where v.tenant_id = a.tenant_id and v.approval_id = a.id and v.verdict = 'APPROVED')::integer as votes
  from fulcrum.approvals a
 where a.tenant_id = @tenant_id and a.id = @id;

-- name: ListApprovals :many
-- By the state as it is now, whether or not the expiry has been written down.
select id, decision_id, envelope_id, policy_id, policy_name, policy_set_version, action_kind, action_name, metadata, state, reviewer_id,
       review_note, quorum, roles, version, created_at, updated_at, expires_at,
       (state in ('PENDING', 'APPROVED') and expires_at <= now())::boolean as overdue,
       (select count(*) from fulcrum.approval_votes v
         where v.tenant_id = a.tenant_id and v.approval_id = a.id and v.verdict = 'APPROVED')::integer as votes
  from fulcrum.approvals a
 where a.tenant_id = @tenant_id
   and (created_at, id) < (@before_at::timestamptz, @before_id::uuid)
   and (@state::text = ''
        or @state::text = case when state in ('PENDING', 'APPROVED') and expires_at <= now() then 'EXPIRED'
                               when state = 'CONSUMED' then 'APPROVED'
                               else state end)
 order by created_at desc, id desc
 limit @lim::integer;

-- name: CountApprovals :one
select count(*)
  from fulcrum.approvals
 where tenant_id = @tenant_id
   and (@state::text = ''
        or @state::text = case when state in ('PENDING', 'APPROVED') and expires_at <= now() then 'EXPIRED'
                               when state = 'CONSUMED' then 'APPROVED'
                               else state end);

-- name: ExpireApprovals :many
update fulcrum.approvals a
   set state = 'EXPIRED', version = a.version + 1, updated_at = now()
 where a.tenant_id = @tenant_id and a.expires_at <= now() and a.state in ('PENDING', 'APPROVED')
returning a.id, a.envelope_id, a.decision_id, a.opens_envelope, a.action_kind, a.action_name, a.digest, a.quorum,
          a.requested_by_key, a.requested_by_agent, a.requested_by_user;
