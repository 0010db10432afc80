-- +goose Up
-- How agents and services authenticate. The secret is not here: only an HMAC
-- of the whole key under a pepper that no database holds.
--
create table fulcrum.api_keys (
    tenant_id      uuid        not null references fulcrum.tenants (id),
    key_id         text        not null check (key_id ~ '^[0-9a-z]{12}$'),
    name           text        not null check (length(name) between 1 and 256),
    hash           bytea       not null check (length(hash) = 32),
    pepper_version smallint    not null check (pepper_version > 0),
    scopes         text[]      not null,
    roles          text[]      not null default '{}',
    agent_id       text        not null default '',
    team           text        not null default '',
    user_id        text        not null default '',
    last4          text        not null check (length(last4) = 4),
    created_by     text        not null,
    created_at     timestamptz not null default now(),
    expires_at     timestamptz,
    revoked_at     timestamptz,
    revoked_by     text,
    last_used_at   timestamptz,
    primary key (tenant_id, key_id)
);
comment on table fulcrum.api_keys is
    'owner: control-plane. API keys as HMACs; a key is never changed, only revoked. Looked up by fulcrum.find_api_key.';
-- Unique across tenants, because a presented key names no tenant.
create unique index api_keys_key_id on fulcrum.api_keys (key_id);
comment on index fulcrum.api_keys_key_id is
    'global: a key must be found before its tenant is known. No oracle: the server draws key_id, 62 random bits, so nobody can choose one to see it collide.';
create index api_keys_by_agent on fulcrum.api_keys (tenant_id, agent_id) where revoked_at is null and agent_id <> '';

select fulcrum.protect('fulcrum.api_keys');
-- Not even the application can give a key other scopes, another hash or tenant.
grant select, insert on fulcrum.api_keys to fulcrum_app;
grant update (revoked_at, revoked_by, last_used_at) on fulcrum.api_keys to fulcrum_app;

-- The gateway learns the tenant from the key, so this lookup runs before any
-- tenant is set: as the scout, who may not log in.
grant select on fulcrum.api_keys to fulcrum_scout;
grant select (id, status) on fulcrum.tenants to fulcrum_scout;
create policy scout_select on fulcrum.api_keys for select to fulcrum_scout using (true);

-- +goose StatementBegin
create function fulcrum.find_api_key(p_key_id text)
    returns table (tenant_id uuid, key_id text, hash bytea, pepper_version smallint, scopes text[], roles text[],
                   agent_id text, team text, user_id text, expires_at timestamptz, revoked_at timestamptz, tenant_status text)
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select k.tenant_id, k.key_id, k.hash, k.pepper_version, k.scopes, k.roles,
           k.agent_id, k.team, k.user_id, k.expires_at, k.revoked_at, t.status
      from fulcrum.api_keys k
      join fulcrum.tenants t on t.id = k.tenant_id
     where k.key_id = p_key_id
$$;
-- +goose StatementEnd
comment on function fulcrum.find_api_key(text) is
    'owner: control-plane. The one row of a public key id, whatever its tenant, or none. The caller judges hash, expiry, revocation and tenant status.';
alter function fulcrum.find_api_key(text) owner to fulcrum_scout;
grant execute on function fulcrum.find_api_key(text) to fulcrum_app;

-- +goose StatementBegin
-- Notes that a key was used, at most once a minute, for the tenant of the transaction.
create function fulcrum.touch_api_key(p_key_id text) returns void
    language sql
    set search_path = pg_catalog
as $$
    update fulcrum.api_keys
       set last_used_at = now()
     where tenant_id = (select fulcrum.current_tenant())
       and key_id = p_key_id
       and (last_used_at is null or last_used_at < now() - interval '1 minute')
$$;
-- +goose StatementEnd
comment on function fulcrum.touch_api_key(text) is
    'owner: control-plane. Sets last_used_at of a key of the current tenant, at most once a minute. For the gateway.';
grant execute on function fulcrum.touch_api_key(text) to fulcrum_app;

-- +goose Down
drop function fulcrum.touch_api_key(text);
drop function fulcrum.find_api_key(text);
drop table fulcrum.api_keys;
revoke select (id, status) on fulcrum.tenants from fulcrum_scout;
