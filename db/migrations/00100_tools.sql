-- +goose Up
create table fulcrum.tools (
    tenant_id    uuid        not null references fulcrum.tenants (id),
    name         text        not null check (length(name) between 1 and 256),
    description  text        not null default '',
    input_schema text        not null default '' check (octet_length(input_schema) <= 65536),
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    primary key (tenant_id, name)
);
comment on table fulcrum.tools is 'owner: control-plane. What a tenant''s tools take; arguments are checked against it before policy.';
select fulcrum.protect('fulcrum.tools');
grant select, insert, update, delete on fulcrum.tools to fulcrum_app;

-- +goose Down
drop table fulcrum.tools;
