-- name: NewerPolicyImports :many
-- Policies that came from a later bundle of the source already.
select name, exported_at
from fulcrum.policy_imports
where tenant_id = @tenant_id and source = @source and name = any(@names::text[]) and exported_at > @exported_at
order by name;

-- name: NotePolicyImports :exec
insert into fulcrum.policy_imports as i (tenant_id, source, name, exported_at)
select @tenant_id, @source, unnest(@names::text[]), @exported_at
on conflict (tenant_id, source, name) do update
set exported_at = excluded.exported_at, imported_at = now()
where i.tenant_id = @tenant_id;
