-- +goose Up
create table fulcrum.open_slices (
    tenant_id   uuid        not null,
    envelope_id uuid        not null,
    created_at  timestamptz not null default now(),
    primary key (tenant_id, envelope_id)
);
comment on table fulcrum.open_slices is 'owner: gateway. Envelopes that may have taken a slice of their parent''s limits: written before the ledger is asked, gone once the ledger has it back. So a slice is returned whatever happens in between, also if its envelope was never recorded.';
select fulcrum.protect('fulcrum.open_slices');
grant select, insert, delete on fulcrum.open_slices to fulcrum_app;
grant select on fulcrum.open_slices to fulcrum_scout;
create policy scout_select on fulcrum.open_slices for select to fulcrum_scout using (true);

drop function fulcrum.gateway_due_tenants(uuid, integer);
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
        union
        select s.tenant_id from fulcrum.open_slices s
          left join fulcrum.envelopes e on e.tenant_id = s.tenant_id and e.id = s.envelope_id
         where s.tenant_id > after
           and (fulcrum.envelope_is_final(e.status) or e.id is null and s.created_at < now() - interval '1 minute')
    ) due
    order by tenant_id limit lim
$$;
-- +goose StatementEnd
comment on function fulcrum.gateway_due_tenants(uuid, integer) is 'owner: gateway. Tenants with envelopes or approvals past their time, or with holds or slices of ended envelopes to give back.';
alter function fulcrum.gateway_due_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.gateway_due_tenants(uuid, integer) to fulcrum_app;
comment on column fulcrum.envelopes.holds_open is 'ended; what its actions hold is still to be given back';

-- +goose Down
comment on column fulcrum.envelopes.holds_open is 'ended by force; what its actions hold is still to be given back';
drop function fulcrum.gateway_due_tenants(uuid, integer);
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
-- +goose StatementEnd
comment on function fulcrum.gateway_due_tenants(uuid, integer) is 'owner: gateway. Tenants with envelopes or approvals past their time, or with holds of ended envelopes to give back.';
alter function fulcrum.gateway_due_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.gateway_due_tenants(uuid, integer) to fulcrum_app;
drop table fulcrum.open_slices;
