-- name: Learn :exec
-- Adds values to the histories of fields.
select fulcrum.learn_baselines(@tenant_ids::uuid[], @ids::uuid[], @labels::text[], @seen::double precision[]);

-- name: Baselines :many
select x.id, x.samples, x.mean, sqrt(x.variance)::double precision as deviation
  from (select unnest(@ids::uuid[]) as id) i
 cross join lateral (
       select b.id, b.samples, b.mean, b.variance from fulcrum.baselines b
        where b.tenant_id = @tenant_id and b.id = i.id offset 0) x;

-- name: BaselineTenants :many
select fulcrum.gateway_baseline_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: DropIdleBaselines :execrows
-- Up to a thousand histories that nothing was added to for a month. One that a
-- decision adds to right now stays.
delete from fulcrum.baselines d
 where d.tenant_id = @tenant_id and d.id = any (array(
       select b.id from fulcrum.baselines b
        where b.tenant_id = @tenant_id and b.touched_on < current_date - 30
        limit 1000
          for update skip locked));
