-- name: EnsureHead :exec
insert into fulcrum.audit_heads (tenant_id, size, root)
values (@tenant_id, 0, @empty_root)
on conflict do nothing;

-- name: LockHead :one
select size, root from fulcrum.audit_heads
where tenant_id = @tenant_id
for no key update;

-- name: Head :one
select size, root from fulcrum.audit_heads
where tenant_id = @tenant_id;

-- name: MoveHead :exec
update fulcrum.audit_heads
set size = @size, root = @root, updated_at = now()
where tenant_id = @tenant_id;

-- name: KnownEvents :many
select event_id from fulcrum.audit_leaves
where tenant_id = @tenant_id and event_id = any(@event_ids::uuid[]);

-- name: InsertLeaves :exec
insert into fulcrum.audit_leaves (tenant_id, index, event_id, leaf, occurred_at, actor, action, resource, decision, policy_version)
select @tenant_id, unnest(@indexes::bigint[]), unnest(@event_ids::uuid[]), unnest(@leaves::bytea[]), unnest(@occurred_at::timestamptz[]),
       unnest(@actors::text[]), unnest(@actions::text[]), unnest(@resources::text[]), unnest(@decisions::text[]), unnest(@policy_versions::bigint[]);

-- name: InsertPayloads :exec
insert into fulcrum.audit_payloads (tenant_id, index, salt, payload)
select @tenant_id, unnest(@indexes::bigint[]), unnest(@salts::bytea[]), unnest(@payloads::bytea[]);

-- name: Tiles :many
select level, n, width, hashes from fulcrum.audit_tiles
where tenant_id = @tenant_id
  and (level, n) in (select unnest(@levels::integer[]), unnest(@ns::bigint[]));

-- name: PutTiles :exec
insert into fulcrum.audit_tiles (tenant_id, level, n, width, hashes)
select @tenant_id, unnest(@levels::integer[]), unnest(@ns::bigint[]), unnest(@widths::integer[]), unnest(@hashes::bytea[])
on conflict (tenant_id, level, n) do update
set width = excluded.width, hashes = excluded.hashes
where fulcrum.audit_tiles.width < excluded.width;

-- name: LeafByEvent :one
select l.index, l.event_id, l.leaf, l.occurred_at, l.actor, l.action, l.resource, l.decision, l.policy_version, p.salt, p.payload
from fulcrum.audit_leaves l
left join fulcrum.audit_payloads p on p.tenant_id = l.tenant_id and p.index = l.index
where l.tenant_id = @tenant_id and l.event_id = @event_id;

-- name: Leaves :many
select l.index, l.event_id, l.leaf, l.occurred_at, l.actor, l.action, l.resource, l.decision, l.policy_version, p.salt, p.payload
from fulcrum.audit_leaves l
left join fulcrum.audit_payloads p on p.tenant_id = l.tenant_id and p.index = l.index
where l.tenant_id = @tenant_id and l.index >= @start_index
order by l.index
limit @lim;

-- name: LatestBlock :one
select size, root, note, signed_at from fulcrum.audit_blocks
where tenant_id = @tenant_id
order by size desc
limit 1;

-- name: InsertBlock :exec
insert into fulcrum.audit_blocks (tenant_id, size, root, note)
values (@tenant_id, @size, @root, @note)
on conflict do nothing;

-- name: UnsignedTenants :many
select fulcrum.audit_unsigned_tenants(@lim)::uuid as tenant_id;
