-- +goose Up
create table fulcrum.policy_imports (
    tenant_id   uuid        not null references fulcrum.tenants (id),
    source      text        not null,
    name        text        not null,
    exported_at timestamptz not null,
    imported_at timestamptz not null default now(),
    primary key (tenant_id, source, name)
);
comment on table fulcrum.policy_imports is 'owner: control-plane. From when the bundle is that a policy was last imported from, so that an older one of the same source is noticed.';
comment on column fulcrum.policy_imports.source is 'the key that signed the bundle, and the tenant that exported it';
select fulcrum.protect('fulcrum.policy_imports');
grant select, insert, update on fulcrum.policy_imports to fulcrum_app;

-- +goose Down
drop table fulcrum.policy_imports;
