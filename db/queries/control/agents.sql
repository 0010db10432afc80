-- name: InsertAgent :one
insert into fulcrum.agents (tenant_id, id, name, description, model, environment, team, config)
values (@tenant_id, @id, @name, @description, @model, @environment, @team, @config)
returning status, created_at, updated_at;

-- name: Agent :one
select id, name, description, model, environment, team, status, config, revision, created_at, updated_at
from fulcrum.agents
where tenant_id = @tenant_id and id = @id;

-- name: LockAgent :one
select id, name, description, model, environment, team, status, config, revision, created_at, updated_at
from fulcrum.agents
where tenant_id = @tenant_id and id = @id
for update;

-- name: UpdateAgent :one
update fulcrum.agents
set name = @name, description = @description, status = @status, config = @config,
    revision = revision + 1, updated_at = now()
where tenant_id = @tenant_id and id = @id
returning updated_at;

-- name: Agents :many
-- One page, oldest first. An empty status selects all but the deleted.
select id, name, description, model, environment, team, status, config, revision, created_at, updated_at
from fulcrum.agents
where tenant_id = @tenant_id
  and (status = sqlc.narg(status)::text or (sqlc.narg(status)::text is null and status <> 'deleted'))
  and (sqlc.narg(environment)::text is null or environment = sqlc.narg(environment)::text)
  and (sqlc.narg(team)::text is null or team = sqlc.narg(team)::text)
  and id > @after_id
order by id
limit @lim;

-- name: CountAgents :one
select count(*)::integer
from fulcrum.agents
where tenant_id = @tenant_id
  and (status = sqlc.narg(status)::text or (sqlc.narg(status)::text is null and status <> 'deleted'))
  and (sqlc.narg(environment)::text is null or environment = sqlc.narg(environment)::text)
  and (sqlc.narg(team)::text is null or team = sqlc.narg(team)::text);
