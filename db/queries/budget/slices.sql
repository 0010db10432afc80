-- name: FindSlices :many
select s.tenant_id, s.envelope_id, s.request_hash, s.behind, s.vias, (s.returned_at is not null)::boolean as ended, s.returned
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@ids::uuid[]) as envelope_id) k
cross join lateral (
    select x.tenant_id, x.envelope_id, x.request_hash, x.behind, x.vias, x.returned_at, x.returned
    from fulcrum.envelope_slices x
    where x.tenant_id = k.tenant_id and x.envelope_id = k.envelope_id
    offset 0) s;

-- name: InsertSlice :exec
insert into fulcrum.envelope_slices (tenant_id, envelope_id, request_hash, behind, vias, created_at)
values (@tenant_id, @envelope_id, @request_hash, @behind::text[], @vias::text[], @created_at);

-- name: EndSlice :execrows
update fulcrum.envelope_slices
set returned_at = @returned_at::timestamptz, returned = @returned::bigint[]
where tenant_id = @tenant_id and envelope_id = @envelope_id and returned_at is null;
