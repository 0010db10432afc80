-- name: InsertBudget :one
insert into fulcrum.budgets (tenant_id, id, name, workflow_id, suspended, content, created_by)
values (@tenant_id, @id, @name, @workflow_id, @suspended, @content, @created_by)
returning revision, created_at, updated_at;

-- name: UpdateBudget :one
-- No row: the budget is gone, or no longer at that revision.
update fulcrum.budgets
set revision = revision + 1, name = @name, workflow_id = @workflow_id, suspended = @suspended,
    content = @content, updated_at = now()
where tenant_id = @tenant_id and id = @id and revision = @revision and deleted_at is null
returning revision, updated_at;

-- name: DeleteBudget :execrows
update fulcrum.budgets
set revision = revision + 1, updated_at = now(), deleted_at = now()
where tenant_id = @tenant_id and id = @id and revision = @revision and deleted_at is null;

-- name: Budget :one
select id, revision, content, created_at, updated_at
from fulcrum.budgets
where tenant_id = @tenant_id and id = @id and deleted_at is null;

-- name: Budgets :many
-- One page, oldest first. A null filter selects all.
select id, revision, content, created_at, updated_at
from fulcrum.budgets
where tenant_id = @tenant_id and deleted_at is null
  and (sqlc.narg(workflow_id)::text is null or workflow_id = sqlc.narg(workflow_id)::text)
  and (sqlc.narg(suspended)::boolean is null or suspended = sqlc.narg(suspended)::boolean)
  and (cardinality(@ids::uuid[]) = 0 or id = any (@ids::uuid[]))
  and id > @after_id
order by id
limit @lim;

-- name: CountBudgets :one
select count(*)::integer
from fulcrum.budgets
where tenant_id = @tenant_id and deleted_at is null
  and (sqlc.narg(workflow_id)::text is null or workflow_id = sqlc.narg(workflow_id)::text)
  and (sqlc.narg(suspended)::boolean is null or suspended = sqlc.narg(suspended)::boolean)
  and (cardinality(@ids::uuid[]) = 0 or id = any (@ids::uuid[]));

-- name: LiveBudgets :many
select id, revision, content, created_at, updated_at
from fulcrum.budgets
where tenant_id = @tenant_id and deleted_at is null
order by id;
