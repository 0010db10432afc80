-- +goose Up
create table fulcrum.wallet_keys (
    tenant_id        uuid        not null,
    wallet_id        uuid        not null,
    id               uuid        not null,
    public_key       bytea       not null check (length(public_key) = 32),
    sealed_key       bytea       not null check (length(sealed_key) between 40 and 256),
    wrapped_data_key bytea       not null check (length(wrapped_data_key) between 40 and 256),
    kek_id           text        not null check (length(kek_id) between 1 and 64),
    created_by       text        not null,
    created_at       timestamptz not null default now(),
    primary key (tenant_id, wallet_id, id)
);
comment on table fulcrum.wallet_keys is 'owner: budget. Signing keys of wallets, the newest signs. The private half is sealed with a data key, and that is wrapped by a key-encryption key which is never in the database; both bound to tenant, wallet and key by associated data. Only the wrapping ever changes.';
comment on column fulcrum.wallet_keys.kek_id is 'names the key-encryption key, by its hash';
select fulcrum.protect('fulcrum.wallet_keys');
grant select, insert, update (wrapped_data_key, kek_id) on fulcrum.wallet_keys to fulcrum_app;

-- For the rotation of the key-encryption key: which tenants have keys that
-- another one wraps.
grant select (tenant_id, kek_id) on fulcrum.wallet_keys to fulcrum_scout;
create policy scout_select on fulcrum.wallet_keys for select to fulcrum_scout using (true);
-- +goose StatementBegin
create function fulcrum.tenants_with_wallet_keys(other_than text, after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select distinct k.tenant_id from fulcrum.wallet_keys k
    where k.kek_id <> other_than and k.tenant_id > after
    order by k.tenant_id limit lim
$$;
-- +goose StatementEnd
comment on function fulcrum.tenants_with_wallet_keys(text, uuid, integer) is 'owner: budget. Tenants with signing keys that another key-encryption key wraps.';
alter function fulcrum.tenants_with_wallet_keys(text, uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.tenants_with_wallet_keys(text, uuid, integer) to fulcrum_app;

-- +goose Down
drop function fulcrum.tenants_with_wallet_keys(text, uuid, integer);
drop table fulcrum.wallet_keys;
