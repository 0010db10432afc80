-- name: InsertPolicy :one
insert into fulcrum.policies (tenant_id, id, version, status, priority, rule_types, created_by)
values (@tenant_id, @id, 1, @status, @priority, @rule_types, @created_by)
returning revision, created_at, updated_at;

-- name: InsertPolicyVersion :exec
insert into fulcrum.policy_versions (tenant_id, policy_id, version, name, content, sha256, created_by)
values (@tenant_id, @policy_id, @version, @name, @content, @sha256, @created_by);

-- name: UpdatePolicy :one
-- No row: the policy is gone, or no longer at that revision.
update fulcrum.policies
set version = @version, revision = revision + 1, status = @status, priority = @priority,
    rule_types = @rule_types, updated_at = now()
where tenant_id = @tenant_id and id = @id and revision = @revision and deleted_at is null
returning revision, updated_at;

-- name: DeletePolicy :execrows
update fulcrum.policies
set revision = revision + 1, status = 'ARCHIVED', updated_at = now(), deleted_at = now()
where tenant_id = @tenant_id and id = @id and revision = @revision and deleted_at is null;

-- name: Policy :one
select p.id, p.version, p.revision, p.status, p.created_by, p.created_at, p.updated_at, v.content
from fulcrum.policies p
join fulcrum.policy_versions v on v.tenant_id = p.tenant_id and v.policy_id = p.id and v.version = p.version
where p.tenant_id = @tenant_id and v.tenant_id = @tenant_id and p.id = @id and p.deleted_at is null;

-- name: Policies :many
-- One page, highest priority first. A null status or rule type selects all.
select p.id, p.version, p.revision, p.status, p.created_by, p.created_at, p.updated_at, v.content
from fulcrum.policies p
join fulcrum.policy_versions v on v.tenant_id = p.tenant_id and v.policy_id = p.id and v.version = p.version
where p.tenant_id = @tenant_id and v.tenant_id = @tenant_id and p.deleted_at is null
  and (sqlc.narg(status)::text is null or p.status = sqlc.narg(status)::text)
  and (sqlc.narg(rule_type)::integer is null or sqlc.narg(rule_type)::integer = any (p.rule_types))
  and (not @resumed::boolean or p.priority < @after_priority::integer
       or (p.priority = @after_priority::integer and p.id > @after_id::uuid))
order by p.priority desc, p.id
limit @lim;

-- name: CountPolicies :one
select count(*)::integer
from fulcrum.policies p
where p.tenant_id = @tenant_id and p.deleted_at is null
  and (sqlc.narg(status)::text is null or p.status = sqlc.narg(status)::text)
  and (sqlc.narg(rule_type)::integer is null or sqlc.narg(rule_type)::integer = any (p.rule_types));

-- name: ActivePolicies :many
select p.id, p.version, p.revision, p.status, p.created_by, p.created_at, p.updated_at, v.content
from fulcrum.policies p
join fulcrum.policy_versions v on v.tenant_id = p.tenant_id and v.policy_id = p.id and v.version = p.version
where p.tenant_id = @tenant_id and v.tenant_id = @tenant_id and p.deleted_at is null and p.status = 'ACTIVE'
order by p.priority desc, p.id;
