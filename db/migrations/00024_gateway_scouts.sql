-- +goose Up
grant select on fulcrum.envelopes, fulcrum.approvals, fulcrum.idempotency_keys to fulcrum_scout;
create policy scout_select on fulcrum.envelopes for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.approvals for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.idempotency_keys for select to fulcrum_scout using (true);

-- +goose StatementBegin
create function fulcrum.gateway_due_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select tenant_id from (
        select e.tenant_id from fulcrum.envelopes e
         where e.expires_at is not null and e.status in ('PENDING', 'AUTHORIZED', 'RUNNING', 'PAUSED')
           and e.expires_at <= now() and e.tenant_id > after
        union
        select e.tenant_id from fulcrum.envelopes e where e.holds_open and e.tenant_id > after
        union
        select a.tenant_id from fulcrum.approvals a
         where a.state in ('PENDING', 'APPROVED') and a.expires_at <= now() and a.tenant_id > after
    ) due
    order by tenant_id limit lim
$$;

create function fulcrum.gateway_stale_key_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    -- One index probe a tenant, however many rows each has.
    with recursive walk(tenant_id) as (
        (select k.tenant_id from fulcrum.idempotency_keys k
         where k.tenant_id > after order by k.tenant_id limit 1)
        union all
        select (select k.tenant_id from fulcrum.idempotency_keys k
                where k.tenant_id > walk.tenant_id order by k.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select w.tenant_id from walk w
     where w.tenant_id is not null
       and exists (select from fulcrum.idempotency_keys k where k.tenant_id = w.tenant_id and k.expires_at <= now())
     limit lim
$$;
-- +goose StatementEnd
comment on function fulcrum.gateway_due_tenants(uuid, integer) is 'owner: gateway. Tenants with envelopes or approvals past their time, or with holds of ended envelopes to give back.';
comment on function fulcrum.gateway_stale_key_tenants(uuid, integer) is 'owner: gateway. Tenants with idempotency keys past their day.';
alter function fulcrum.gateway_due_tenants(uuid, integer) owner to fulcrum_scout;
alter function fulcrum.gateway_stale_key_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.gateway_due_tenants(uuid, integer), fulcrum.gateway_stale_key_tenants(uuid, integer) to fulcrum_app;

-- +goose Down
drop function fulcrum.gateway_stale_key_tenants(uuid, integer);
drop function fulcrum.gateway_due_tenants(uuid, integer);
drop policy scout_select on fulcrum.idempotency_keys;
drop policy scout_select on fulcrum.approvals;
drop policy scout_select on fulcrum.envelopes;
revoke select on fulcrum.envelopes, fulcrum.approvals, fulcrum.idempotency_keys from fulcrum_scout;
