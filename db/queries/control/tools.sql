-- name: UpsertTool :one
-- No row when nothing differs from what is there.
insert into fulcrum.tools as t (tenant_id, name, description, input_schema, source, annotations, digest)
values (@tenant_id, @name, @description, @input_schema, @source, @annotations, @digest)
on conflict (tenant_id, name) do update
set description = excluded.description, input_schema = excluded.input_schema, source = excluded.source, annotations = excluded.annotations,
    digest = excluded.digest, updated_at = now()
where (t.description, t.input_schema, t.source, t.annotations, t.digest)
      is distinct from (excluded.description, excluded.input_schema, excluded.source, excluded.annotations, excluded.digest)
returning created_at, updated_at;

-- name: Tool :one
select name, description, input_schema, source, annotations, digest, created_at, updated_at
from fulcrum.tools
where tenant_id = @tenant_id and name = @name;

-- name: Tools :many
select name, description, input_schema, source, annotations, digest, created_at, updated_at
from fulcrum.tools
where tenant_id = @tenant_id and name > @after_name
order by name
limit @lim;

-- name: DeleteTool :one
delete from fulcrum.tools
where tenant_id = @tenant_id and name = @name
returning name, description, input_schema, source, annotations, digest, created_at, updated_at;
