-- +goose Up
create table fulcrum.webhook_endpoints (
    tenant_id       uuid        not null references fulcrum.tenants (id),
    id              uuid        not null,
    url             text        not null,
    description     text        not null,
    event_types     text[]      not null,
    status          text        not null default 'ACTIVE' check (status in ('ACTIVE', 'DISABLED')),
    disabled_reason text        not null default '',
    failures        integer     not null default 0 check (failures >= 0),
    failing_since   timestamptz,
    last_error      text        not null default '',
    last_attempt_at timestamptz,
    last_success_at timestamptz,
    created_by      text        not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (tenant_id, id),
    check ((failures = 0) = (failing_since is null)),
    check ((disabled_reason <> '') = (status = 'DISABLED'))
);
comment on table fulcrum.webhook_endpoints is 'owner: event-processor. Where tenants are told what happened.';
create unique index webhook_endpoints_url on fulcrum.webhook_endpoints (tenant_id, url);
comment on column fulcrum.webhook_endpoints.event_types is 'what it is told; empty: everything';
select fulcrum.protect_list('fulcrum.webhook_endpoints');
grant select, insert, update, delete on fulcrum.webhook_endpoints to fulcrum_app;

create table fulcrum.webhook_secrets (
    tenant_id        uuid        not null,
    endpoint_id      uuid        not null,
    id               uuid        not null,
    sealed           bytea       not null,
    wrapped_data_key bytea       not null,
    kek_id           text        not null,
    created_at       timestamptz not null default now(),
    expires_at       timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, endpoint_id) references fulcrum.webhook_endpoints (tenant_id, id) on delete cascade
);
comment on table fulcrum.webhook_secrets is 'owner: event-processor. What signs messages to an endpoint, sealed: the newest, and older ones until they expire.';
create index webhook_secrets_endpoint on fulcrum.webhook_secrets (tenant_id, endpoint_id, created_at);
create unique index webhook_secrets_current on fulcrum.webhook_secrets (tenant_id, endpoint_id) where expires_at is null;
select fulcrum.protect_list('fulcrum.webhook_secrets');
grant select, insert, delete on fulcrum.webhook_secrets to fulcrum_app;
grant update (sealed, wrapped_data_key, kek_id, expires_at) on fulcrum.webhook_secrets to fulcrum_app;

create table fulcrum.webhook_deliveries (
    tenant_id     uuid        not null,
    endpoint_id   uuid        not null,
    event_id      uuid        not null,
    type          text        not null,
    body          bytea       not null,
    state         text        not null default 'PENDING' check (state in ('PENDING', 'DELIVERED', 'FAILED')),
    attempts      integer     not null default 0,
    next_at       timestamptz not null default now(),
    claimed_until timestamptz,
    status_code   integer     not null default 0,
    error         text        not null default '',
    created_at    timestamptz not null default now(),
    attempted_at  timestamptz,
    primary key (tenant_id, endpoint_id, event_id),
    foreign key (tenant_id, endpoint_id) references fulcrum.webhook_endpoints (tenant_id, id) on delete cascade
);
comment on table fulcrum.webhook_deliveries is 'owner: event-processor. Messages to endpoints, written in the transaction that takes the event into the journal; kept for a week after they ended.';
comment on column fulcrum.webhook_deliveries.claimed_until is 'somebody sends it; who does not say how it went until then is dead, and it is sent again';
create index webhook_deliveries_due on fulcrum.webhook_deliveries (tenant_id, endpoint_id, next_at) where state = 'PENDING';
create index webhook_deliveries_newest on fulcrum.webhook_deliveries (tenant_id, endpoint_id, created_at desc, event_id desc);
create index webhook_deliveries_ended on fulcrum.webhook_deliveries (tenant_id, created_at) where state <> 'PENDING';
select fulcrum.protect_list('fulcrum.webhook_deliveries');
grant select, insert, update, delete on fulcrum.webhook_deliveries to fulcrum_app;

grant select on fulcrum.webhook_endpoints, fulcrum.webhook_secrets, fulcrum.webhook_deliveries to fulcrum_scout;
create policy scout_select on fulcrum.webhook_endpoints for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.webhook_secrets for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.webhook_deliveries for select to fulcrum_scout using (true);

-- +goose StatementBegin
create function fulcrum.webhook_due_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    -- Endpoints are few, and each is one probe of the queue.
    select distinct e.tenant_id
    from fulcrum.webhook_endpoints e
    where e.tenant_id > after and e.status = 'ACTIVE'
      and exists (
          select from fulcrum.webhook_deliveries d
          where d.tenant_id = e.tenant_id and d.endpoint_id = e.id and d.state = 'PENDING' and d.next_at <= now()
            and (d.claimed_until is null or d.claimed_until <= now()))
    order by e.tenant_id
    limit lim
$$;

create function fulcrum.webhook_stale_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select distinct e.tenant_id
    from fulcrum.webhook_endpoints e
    where e.tenant_id > after
      and exists (
          select from fulcrum.webhook_deliveries d
          where d.tenant_id = e.tenant_id and d.state <> 'PENDING' and d.created_at < now() - interval '7 days')
    order by e.tenant_id
    limit lim
$$;

create function fulcrum.webhook_rewrap_tenants(kek text, after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select distinct s.tenant_id
    from fulcrum.webhook_secrets s
    where s.tenant_id > after and s.kek_id <> kek
    order by s.tenant_id
    limit lim
$$;
-- +goose StatementEnd
comment on function fulcrum.webhook_rewrap_tenants(text, uuid, integer) is 'owner: event-processor. Tenants with secrets that another key than this wraps.';
alter function fulcrum.webhook_rewrap_tenants(text, uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.webhook_rewrap_tenants(text, uuid, integer) to fulcrum_app;
comment on function fulcrum.webhook_due_tenants(uuid, integer) is 'owner: event-processor. Tenants with messages to send now.';
comment on function fulcrum.webhook_stale_tenants(uuid, integer) is 'owner: event-processor. Tenants with messages that ended more than a week ago.';
alter function fulcrum.webhook_due_tenants(uuid, integer) owner to fulcrum_scout;
alter function fulcrum.webhook_stale_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.webhook_due_tenants(uuid, integer), fulcrum.webhook_stale_tenants(uuid, integer) to fulcrum_app;

-- +goose Down
drop function fulcrum.webhook_rewrap_tenants(text, uuid, integer);
drop function fulcrum.webhook_stale_tenants(uuid, integer);
drop function fulcrum.webhook_due_tenants(uuid, integer);
drop table fulcrum.webhook_deliveries;
drop table fulcrum.webhook_secrets;
drop table fulcrum.webhook_endpoints;
