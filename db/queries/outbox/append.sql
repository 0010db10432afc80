-- name: AppendEvents :exec
-- Rows get their seq in the order of the arrays. An id that is there already is
-- the same event told twice.
insert into fulcrum.outbox (tenant_id, event_id, writer, stream, type, event)
select unnest(@tenants::uuid[]), unnest(@event_ids::uuid[]), unnest(@writers::text[]),
       unnest(@streams::smallint[]), unnest(@types::text[]), unnest(@events::bytea[])
on conflict (tenant_id, event_id) do nothing;

-- name: TakeIn :many
-- Returns the events that this consumer had not taken in before.
insert into fulcrum.inbox (tenant_id, consumer, event_id)
select unnest(@tenants::uuid[]), @consumer, unnest(@event_ids::uuid[])
on conflict (tenant_id, event_id, consumer) do nothing
returning tenant_id, event_id;

-- name: Bury :exec
-- One letter an event and consumer: failing again opens it again.
insert into fulcrum.dead_letters as d (tenant_id, id, consumer, event_id, subject, event, headers, error, deliveries)
values (@tenant_id, @id, @consumer, sqlc.narg('event_id'), @subject, @event, @headers, @error, @deliveries)
on conflict (tenant_id, event_id, consumer) do update
set error = excluded.error, deliveries = d.deliveries + excluded.deliveries, resolved_at = null, resolution = null
where d.tenant_id = @tenant_id;
