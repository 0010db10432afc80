-- +goose Up
-- What is for the configuration stream is found without looking through a
-- tenant's unsent events: a revoked key does not wait behind a flood.
drop index fulcrum.outbox_unsent;
create index outbox_unsent on fulcrum.outbox (stream, tenant_id, seq) where sent_at is null;

-- The one without a lane stays for relays that are not replaced yet.
-- +goose StatementBegin
create function fulcrum.outbox_tenants(lane smallint, after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    -- One index probe a tenant, however many rows each has.
    with recursive walk(tenant_id) as (
        (select o.tenant_id from fulcrum.outbox o
         where o.sent_at is null and o.stream = lane and o.tenant_id > after
         order by o.tenant_id limit 1)
        union all
        select (select o.tenant_id from fulcrum.outbox o
                where o.sent_at is null and o.stream = lane and o.tenant_id > walk.tenant_id
                order by o.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select tenant_id from walk where tenant_id is not null limit lim
$$;
-- +goose StatementEnd
alter function fulcrum.outbox_tenants(smallint, uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.outbox_tenants(smallint, uuid, integer) to fulcrum_app;

-- +goose Down
drop function fulcrum.outbox_tenants(smallint, uuid, integer);
drop index fulcrum.outbox_unsent;
create index outbox_unsent on fulcrum.outbox (tenant_id, seq) where sent_at is null;
