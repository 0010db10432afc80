-- name: Clock :one
-- The time of the transaction by the database, which overrides start and end by.
select now()::timestamptz as now;

-- name: InsertBudgetOverride :one
insert into fulcrum.budget_overrides (tenant_id, id, budget_id, starts_at, ends_at, content, reason, created_by)
values (@tenant_id, @id, @budget_id, @starts_at, @ends_at, @content, @reason, @created_by)
returning created_at;

-- name: LiveOverrides :many
-- In force or to come, the one made last last.
select id, budget_id, starts_at, ends_at, content, reason, created_by, created_at, revoked_at, revoked_by, revoke_reason
from fulcrum.budget_overrides
where tenant_id = @tenant_id and revoked_at is null and ends_at > now()
order by budget_id, created_at, id;

-- name: BudgetOverrides :many
-- One page, newest first.
select id, budget_id, starts_at, ends_at, content, reason, created_by, created_at, revoked_at, revoked_by, revoke_reason
from fulcrum.budget_overrides
where tenant_id = @tenant_id and budget_id = @budget_id and id < @before_id
  and (@ended::boolean or revoked_at is null and ends_at > now())
order by id desc
limit @lim;

-- name: BudgetOverride :one
select id, budget_id, starts_at, ends_at, content, reason, created_by, created_at, revoked_at, revoked_by, revoke_reason
from fulcrum.budget_overrides
where tenant_id = @tenant_id and budget_id = @budget_id and id = @id;

-- name: RevokeBudgetOverride :execrows
update fulcrum.budget_overrides
set revoked_at = now(), revoked_by = @revoked_by, revoke_reason = @revoke_reason
where tenant_id = @tenant_id and budget_id = @budget_id and id = @id and revoked_at is null and ends_at > now();
