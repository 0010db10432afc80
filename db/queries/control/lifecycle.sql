-- name: InsertPolicyTests :exec
insert into fulcrum.policy_tests (tenant_id, policy_id, version, ordinal, name, content)
select @tenant_id::uuid, @policy_id::uuid, @version::bigint, t.ordinal, t.name, t.content
  from (select unnest(@ordinals::integer[]) as ordinal, unnest(@names::text[]) as name, unnest(@contents::bytea[]) as content) t;

-- name: PolicyTests :many
-- The tests of several versions, in order.
select t.policy_id, t.content
from fulcrum.policy_tests t
join (select unnest(@policy_ids::uuid[]) as policy_id, unnest(@versions::bigint[]) as version) w
  on w.policy_id = t.policy_id and w.version = t.version
where t.tenant_id = @tenant_id
order by t.policy_id, t.ordinal;

-- name: LatestPolicyVersion :one
select coalesce(max(version), 0)::bigint
from fulcrum.policy_versions
where tenant_id = @tenant_id and policy_id = @policy_id;

-- name: PolicyVersion :one
select v.version, v.content, v.created_by, v.created_at
from fulcrum.policy_versions v
where v.tenant_id = @tenant_id and v.policy_id = @policy_id and v.version = @version;

-- name: PolicyVersions :many
select v.version, v.content, v.created_by, v.created_at
from fulcrum.policy_versions v
where v.tenant_id = @tenant_id and v.policy_id = @policy_id and v.version < @before
order by v.version desc
limit @lim;

-- name: InsertPolicyActivation :exec
insert into fulcrum.policy_activations (tenant_id, policy_id, revision, action, version, from_version, actor, reason, policy_set_version, tests_passed)
values (@tenant_id, @policy_id, @revision, @action, @version, @from_version, @actor, @reason, @policy_set_version, @tests_passed);

-- name: PolicyActivations :many
select revision, action, version, from_version, actor, at, reason, policy_set_version, tests_passed
from fulcrum.policy_activations
where tenant_id = @tenant_id and policy_id = @policy_id and revision < @before
order by revision desc
limit @lim;

-- name: FormerPolicyVersion :one
-- The last version that was in force other than the given one; or the wanted
-- one, if it ever was. No row: there is none such.
select a.version
from fulcrum.policy_activations a
where a.tenant_id = @tenant_id and a.policy_id = @policy_id and a.action in ('activate', 'edit', 'rollback')
  and case when @wanted::bigint > 0 then a.version = @wanted::bigint else a.version <> @now_version::bigint end
order by a.revision desc
limit 1;

-- name: PutPolicyShadow :one
insert into fulcrum.policy_shadows (tenant_id, policy_id, version, share_per_myriad, started_by)
values (@tenant_id, @policy_id, @version, @share_per_myriad, @started_by)
on conflict (tenant_id, policy_id) do update
   set version = excluded.version, share_per_myriad = excluded.share_per_myriad, started_by = excluded.started_by, started_at = now()
returning started_at;

-- name: DropPolicyShadow :execrows
delete from fulcrum.policy_shadows where tenant_id = @tenant_id and policy_id = @policy_id;

-- name: PolicyShadows :many
-- Those of policies that are deleted or archived are over.
select s.policy_id, s.version, s.share_per_myriad, s.started_by, s.started_at, v.content
from fulcrum.policy_shadows s
join fulcrum.policies p on p.tenant_id = s.tenant_id and p.id = s.policy_id
join fulcrum.policy_versions v on v.tenant_id = s.tenant_id and v.policy_id = s.policy_id and v.version = s.version
where s.tenant_id = @tenant_id and p.tenant_id = @tenant_id and v.tenant_id = @tenant_id
  and p.deleted_at is null and p.status <> 'ARCHIVED'
order by s.policy_id;

-- name: EndPolicyShadow :exec
-- The version is in force now: there is nothing left to compare.
delete from fulcrum.policy_shadows where tenant_id = @tenant_id and policy_id = @policy_id and version = @version;
