-- +goose Up
-- One RFC 6962 tree per tenant. Leaves and hashes are append-only; payload and
-- salt live apart, so that retention and erasure can delete them while every
-- proof still verifies.

create table fulcrum.audit_heads (
    tenant_id  uuid        not null,
    size       bigint      not null check (size >= 0),
    root       bytea       not null check (length(root) = 32),
    updated_at timestamptz not null default now(),
    primary key (tenant_id)
);
comment on table fulcrum.audit_heads is 'owner: audit. Size and root of each tenant''s tree; its row lock makes one sequencer at a time.';
select fulcrum.protect_list('fulcrum.audit_heads');
grant select, insert, update on fulcrum.audit_heads to fulcrum_app;

create table fulcrum.audit_leaves (
    tenant_id      uuid        not null,
    index          bigint      not null check (index >= 0),
    event_id       uuid        not null,
    leaf           bytea       not null,
    occurred_at    timestamptz not null,
    actor          text        not null,
    action         text        not null,
    resource       text        not null,
    decision       text        not null,
    policy_version bigint      not null,
    primary key (tenant_id, index),
    unique (tenant_id, event_id)
);
comment on table fulcrum.audit_leaves is 'owner: audit. The exact bytes of every leaf, in order, and the facts in them for queries.';
select fulcrum.protect_list('fulcrum.audit_leaves');
grant select, insert on fulcrum.audit_leaves to fulcrum_app;

create table fulcrum.audit_payloads (
    tenant_id uuid   not null,
    index     bigint not null,
    salt      bytea  not null check (length(salt) = 16),
    payload   bytea  not null,
    primary key (tenant_id, index),
    foreign key (tenant_id, index) references fulcrum.audit_leaves (tenant_id, index)
);
comment on table fulcrum.audit_payloads is 'owner: audit. What a leaf only holds the salted hash of; deleted by retention and erasure.';
select fulcrum.protect_list('fulcrum.audit_payloads');
grant select, insert on fulcrum.audit_payloads to fulcrum_app;
grant select, delete on fulcrum.audit_payloads to fulcrum_retention;

create table fulcrum.audit_tiles (
    tenant_id uuid   not null,
    level     integer not null check (level >= 0),
    n         bigint not null check (n >= 0),
    width     integer not null check (width between 1 and 256),
    hashes    bytea  not null check (length(hashes) = width * 32),
    primary key (tenant_id, level, n)
);
comment on table fulcrum.audit_tiles is 'owner: audit. The tree''s hashes as C2SP tlog tiles of height 8: 256 hashes a row; only the rightmost tile of a level still grows.';
select fulcrum.protect_list('fulcrum.audit_tiles');
grant select, insert, update on fulcrum.audit_tiles to fulcrum_app;

create table fulcrum.audit_blocks (
    tenant_id  uuid        not null,
    size       bigint      not null check (size > 0),
    root       bytea       not null check (length(root) = 32),
    note       text        not null,
    signed_at  timestamptz not null default now(),
    primary key (tenant_id, size)
);
comment on table fulcrum.audit_blocks is 'owner: audit. Signed log checkpoints (C2SP tlog-checkpoint), each proven to extend the one before it.';
select fulcrum.protect_list('fulcrum.audit_blocks');
grant select, insert on fulcrum.audit_blocks to fulcrum_app;

-- +goose StatementBegin
-- The tree makes tampering evident; this makes it hard, for all but a superuser.
create function fulcrum.audit_append_only() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    raise exception '%.% is append-only', tg_table_schema, tg_table_name using errcode = 'FT010';
end
$$;
-- +goose StatementEnd
create trigger append_only before update or delete or truncate on fulcrum.audit_leaves
    for each statement execute function fulcrum.audit_append_only();
create trigger append_only before update or delete or truncate on fulcrum.audit_blocks
    for each statement execute function fulcrum.audit_append_only();

-- Tenants whose newest entries no checkpoint covers yet.
grant select on fulcrum.audit_heads, fulcrum.audit_blocks to fulcrum_scout;
create policy scout_select on fulcrum.audit_heads for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.audit_blocks for select to fulcrum_scout using (true);
-- +goose StatementBegin
create function fulcrum.audit_unsigned_tenants(lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select h.tenant_id
    from fulcrum.audit_heads h
    where h.size > coalesce((
        select b.size from fulcrum.audit_blocks b
        where b.tenant_id = h.tenant_id
        order by b.size desc limit 1), 0)
    order by h.tenant_id
    limit lim
$$;
-- +goose StatementEnd
alter function fulcrum.audit_unsigned_tenants(integer) owner to fulcrum_scout;
grant execute on function fulcrum.audit_unsigned_tenants(integer) to fulcrum_app;

-- +goose Down
drop function fulcrum.audit_unsigned_tenants(integer);
drop table fulcrum.audit_blocks;
drop table fulcrum.audit_tiles;
drop table fulcrum.audit_payloads;
drop table fulcrum.audit_leaves;
drop table fulcrum.audit_heads;
drop function fulcrum.audit_append_only();
