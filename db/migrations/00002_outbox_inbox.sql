-- +goose Up
create table fulcrum.outbox (
    tenant_id     uuid        not null,
    event_id      uuid        not null,
    seq           bigint      not null generated always as identity,
    writer        text        not null,
    stream        smallint    not null check (stream in (1, 2)),
    type          text        not null,
    event         bytea       not null,
    created_at    timestamptz not null default now(),
    claimed_until timestamptz,
    sent_at       timestamptz,
    attempts      integer     not null default 0,
    last_error    text,
    primary key (tenant_id, event_id)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
comment on table fulcrum.outbox is 'owner: pkg/outbox, shared; each row names its writer. What a change has to tell others, committed with the change; sent to JetStream by a relay.';
comment on column fulcrum.outbox.event is 'fulcrum.bus.v1.Event, serialized';
comment on column fulcrum.outbox.stream is 'fulcrum.bus.v1.Stream: 1 events, 2 configuration';
create index outbox_unsent on fulcrum.outbox (tenant_id, seq) where sent_at is null;
create index outbox_sent on fulcrum.outbox (tenant_id, sent_at) where sent_at is not null;
select fulcrum.protect_list('fulcrum.outbox');
grant select, insert, update, delete on fulcrum.outbox to fulcrum_app;

create table fulcrum.inbox (
    tenant_id  uuid        not null,
    consumer   text        not null,
    event_id   uuid        not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, event_id, consumer)
);
comment on table fulcrum.inbox is 'owner: pkg/outbox, shared. What each consumer has taken in, written in the transaction of its effect.';
create index inbox_age on fulcrum.inbox (tenant_id, created_at);
select fulcrum.protect_list('fulcrum.inbox');
grant select, insert, delete on fulcrum.inbox to fulcrum_app;

create table fulcrum.dead_letters (
    tenant_id   uuid        not null,
    id          uuid        not null,
    consumer    text        not null,
    event_id    uuid,
    subject     text        not null,
    event       bytea       not null,
    headers     jsonb       not null default '{}',
    error       text        not null,
    deliveries  integer     not null,
    created_at  timestamptz not null default now(),
    resolved_at timestamptz,
    resolution  text,
    primary key (tenant_id, id)
);
comment on table fulcrum.dead_letters is 'owner: event-processor. Messages that a consumer could not take in, with the error, until somebody replays or drops them.';
create index dead_letters_open on fulcrum.dead_letters (tenant_id, created_at) where resolved_at is null;
create unique index dead_letters_once on fulcrum.dead_letters (tenant_id, event_id, consumer);
select fulcrum.protect_list('fulcrum.dead_letters');
grant select, insert, update on fulcrum.dead_letters to fulcrum_app;

-- Which tenants have work is the one question that spans tenants. The scout
-- answers it with ids and nothing else; a new worker copies this pattern:
-- policy for select to fulcrum_scout, function owned by it, fixed search_path.
grant select on fulcrum.outbox, fulcrum.inbox to fulcrum_scout;
create policy scout_select on fulcrum.outbox for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.inbox for select to fulcrum_scout using (true);

-- +goose StatementBegin
create function fulcrum.outbox_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    -- One index probe a tenant, however many rows each has.
    with recursive walk(tenant_id) as (
        (select o.tenant_id from fulcrum.outbox o
         where o.sent_at is null and o.tenant_id > after
         order by o.tenant_id limit 1)
        union all
        select (select o.tenant_id from fulcrum.outbox o
                where o.sent_at is null and o.tenant_id > walk.tenant_id
                order by o.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select tenant_id from walk where tenant_id is not null limit lim
$$;

create function fulcrum.outbox_sent_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    with recursive walk(tenant_id) as (
        (select o.tenant_id from fulcrum.outbox o
         where o.sent_at is not null and o.tenant_id > after
         order by o.tenant_id limit 1)
        union all
        select (select o.tenant_id from fulcrum.outbox o
                where o.sent_at is not null and o.tenant_id > walk.tenant_id
                order by o.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select tenant_id from walk where tenant_id is not null limit lim
$$;

create function fulcrum.inbox_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    with recursive walk(tenant_id) as (
        (select i.tenant_id from fulcrum.inbox i
         where i.tenant_id > after
         order by i.tenant_id limit 1)
        union all
        select (select i.tenant_id from fulcrum.inbox i
                where i.tenant_id > walk.tenant_id
                order by i.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select tenant_id from walk where tenant_id is not null limit lim
$$;
-- +goose StatementEnd
alter function fulcrum.outbox_tenants(uuid, integer) owner to fulcrum_scout;
alter function fulcrum.outbox_sent_tenants(uuid, integer) owner to fulcrum_scout;
alter function fulcrum.inbox_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function
    fulcrum.outbox_tenants(uuid, integer), fulcrum.outbox_sent_tenants(uuid, integer), fulcrum.inbox_tenants(uuid, integer)
to fulcrum_app;

-- +goose Down
drop function fulcrum.inbox_tenants(uuid, integer);
drop function fulcrum.outbox_sent_tenants(uuid, integer);
drop function fulcrum.outbox_tenants(uuid, integer);
drop table fulcrum.dead_letters;
drop table fulcrum.inbox;
drop table fulcrum.outbox;
