-- name: TenantsWithSent :many
select fulcrum.outbox_sent_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: TenantsWithInbox :many
select fulcrum.inbox_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: DeleteConfirmed :execrows
-- Deletes rows that every consumer has accounted for, by inbox or dead letter;
-- configuration has no consumer that confirms, only a last value.
with gone as materialized (
    select s.tenant_id, s.event_id from fulcrum.outbox s
    where s.tenant_id = any (@tenants::uuid[])
      and s.sent_at < clock_timestamp() - make_interval(secs => @older_than_seconds::float8)
      and (s.stream = 2 or not exists (
          select from (select unnest(@consumers::text[]) as consumer) c
          where not exists (select from fulcrum.inbox i
                            where i.tenant_id = s.tenant_id and i.event_id = s.event_id and i.consumer = c.consumer)
            and not exists (select from fulcrum.dead_letters d
                            where d.tenant_id = s.tenant_id and d.event_id = s.event_id and d.consumer in (c.consumer, 'relay'))
      ))
    order by s.tenant_id, s.sent_at
    limit @lim::integer
    for update skip locked
)
delete from fulcrum.outbox o
using gone
where o.tenant_id = any (@tenants::uuid[]) and o.tenant_id = gone.tenant_id and o.event_id = gone.event_id;

-- name: ResendUnconfirmed :many
-- Makes rows unsent that a consumer should have confirmed by now. Each time it
-- waits twice as long, so that a consumer that is merely late is not flooded.
with late as materialized (
    select s.tenant_id, s.event_id from fulcrum.outbox s
    where s.tenant_id = any (@tenants::uuid[]) and s.stream = 1
      and s.sent_at < clock_timestamp()
          - make_interval(secs => sqlc.arg(older_than_seconds)::float8 * power(2, case when s.attempts > 7 then 6 else s.attempts - 1 end))
      and exists (
          select from (select unnest(@consumers::text[]) as consumer) c
          where not exists (select from fulcrum.inbox i
                            where i.tenant_id = s.tenant_id and i.event_id = s.event_id and i.consumer = c.consumer)
            and not exists (select from fulcrum.dead_letters d
                            where d.tenant_id = s.tenant_id and d.event_id = s.event_id and d.consumer in (c.consumer, 'relay'))
      )
    order by s.tenant_id, s.sent_at
    limit @lim::integer
    for update skip locked
)
update fulcrum.outbox o
set sent_at = null, claimed_until = null
from late
where o.tenant_id = any (@tenants::uuid[]) and o.tenant_id = late.tenant_id and o.event_id = late.event_id
returning o.tenant_id, o.event_id, o.created_at;

-- name: PurgeInbox :execrows
-- Forgets what was taken in so long ago that no stream can deliver it again.
-- What the outbox still waits to see confirmed is kept.
with old as materialized (
    select p.tenant_id, p.event_id, p.consumer from fulcrum.inbox p
    where p.tenant_id = any (@tenants::uuid[])
      and p.created_at < clock_timestamp() - make_interval(secs => @older_than_seconds::float8)
      and not exists (select from fulcrum.outbox o where o.tenant_id = p.tenant_id and o.event_id = p.event_id)
    limit @lim::integer
)
delete from fulcrum.inbox i
using old
where i.tenant_id = any (@tenants::uuid[]) and i.tenant_id = old.tenant_id and i.event_id = old.event_id and i.consumer = old.consumer;
