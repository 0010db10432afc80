-- name: ClaimSlice :exec
insert into fulcrum.open_slices (tenant_id, envelope_id) values (@tenant_id, @envelope_id)
on conflict (tenant_id, envelope_id) do nothing;

-- name: SlicesToReturn :many
-- Of envelopes that have ended, and of those that were never recorded: a minute
-- is far longer than opening one takes.
select s.envelope_id
  from fulcrum.open_slices s
  left join fulcrum.envelopes e on e.tenant_id = s.tenant_id and e.id = s.envelope_id
 where s.tenant_id = @tenant_id
   and (fulcrum.envelope_is_final(e.status) or e.id is null and s.created_at < now() - interval '1 minute')
 order by s.envelope_id
 limit 100;

-- name: DropSlice :exec
delete from fulcrum.open_slices where tenant_id = @tenant_id and envelope_id = @envelope_id;
