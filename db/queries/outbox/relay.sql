-- name: TenantsWithUnsent :many
-- The tenants after @after, in order, that have unsent rows for a stream.
select fulcrum.outbox_tenants(@stream::smallint, @after::uuid, @lim::integer)::uuid as tenant_id;

-- name: LockTenants :many
-- Those of the tenants that no other relay is claiming from at this moment, for
-- the same stream.
select t.tenant_id::uuid as tenant_id
from (select unnest(@tenants::uuid[]) as tenant_id) t
where pg_try_advisory_xact_lock(hashtextextended('fulcrum.outbox ' || (@stream::smallint)::text || ' ' || t.tenant_id::text, 0));

-- name: Claim :many
-- Leases the oldest unsent rows of each tenant for a stream. A tenant whose oldest row is
-- under another relay's lease is left alone, or its events would overtake.
-- MATERIALIZED, or a join may run the locking part again and find other rows.
with free as materialized (
    select t.tenant_id
    from (select unnest(@tenants::uuid[]) as tenant_id) t
    where not exists (
        select from (
            select h.claimed_until from fulcrum.outbox h
            where h.stream = @stream::smallint and h.tenant_id = t.tenant_id and h.sent_at is null
            order by h.seq limit 1
        ) head
        where head.claimed_until >= clock_timestamp()
    )
),
picked as materialized (
    select free.tenant_id, u.event_id
    from free
    cross join lateral (
        select u.event_id
        from fulcrum.outbox u
        where u.stream = @stream::smallint and u.tenant_id = free.tenant_id and u.sent_at is null
        order by u.seq
        limit @per_tenant::integer
        for update skip locked
    ) u
)
update fulcrum.outbox o
set claimed_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8),
    attempts = o.attempts + 1
from picked
where o.tenant_id = any (@tenants::uuid[]) and o.tenant_id = picked.tenant_id and o.event_id = picked.event_id
returning o.tenant_id, o.event_id, o.seq, o.event, o.created_at;

-- name: MarkSent :execrows
update fulcrum.outbox o
set sent_at = clock_timestamp(), claimed_until = null, last_error = null
from (select unnest(@tenants::uuid[]) as tenant_id, unnest(@event_ids::uuid[]) as event_id) s
where o.tenant_id = s.tenant_id and o.event_id = s.event_id and o.sent_at is null;

-- name: Release :exec
-- Gives a lease back, so that the row is tried again at once.
update fulcrum.outbox o
set claimed_until = null, last_error = s.error
from (select unnest(@tenants::uuid[]) as tenant_id, unnest(@event_ids::uuid[]) as event_id, unnest(@errors::text[]) as error) s
where o.tenant_id = s.tenant_id and o.event_id = s.event_id and o.sent_at is null;

-- name: MarkDead :exec
-- A row that can never be published counts as dealt with; its dead letter has it.
update fulcrum.outbox
set sent_at = clock_timestamp(), claimed_until = null, last_error = @error
where tenant_id = @tenant_id and event_id = @event_id and sent_at is null;
