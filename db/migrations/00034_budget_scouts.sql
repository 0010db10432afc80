-- +goose Up
-- How far each tenant's holds were swept: every hold that ran out before the mark
-- has ended, so that a sweep looks only at what came due since.
create table fulcrum.hold_sweeps (
    tenant_id   uuid        not null primary key,
    swept_until timestamptz not null
);
comment on table fulcrum.hold_sweeps is 'owner: budget. Up to when expired holds were given back.';
select fulcrum.protect_list('fulcrum.hold_sweeps');
grant select, insert, update on fulcrum.hold_sweeps to fulcrum_app;

grant select on fulcrum.reservations, fulcrum.hold_sweeps, fulcrum.budget_windows, fulcrum.config_bundles to fulcrum_scout;
create policy scout_select on fulcrum.reservations for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.hold_sweeps for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.budget_windows for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.config_bundles for select to fulcrum_scout using (true);

-- +goose StatementBegin
create function fulcrum.tenants_with_due_holds(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    -- One index probe a tenant, however many holds each has. A tenant with holds
    -- that came due since its mark is returned although all may have ended in
    -- time: the sweep then moves the mark.
    with recursive walk(tenant_id) as (
        (select r.tenant_id from fulcrum.reservations r
         where r.tenant_id > after order by r.tenant_id limit 1)
        union all
        select (select r.tenant_id from fulcrum.reservations r
                where r.tenant_id > walk.tenant_id order by r.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select w.tenant_id from walk w
    where w.tenant_id is not null
      and exists (
          select from fulcrum.reservations r
          where r.tenant_id = w.tenant_id and r.expires_at > 'epoch' and r.expires_at <= now()
            and r.expires_at > coalesce((select s.swept_until from fulcrum.hold_sweeps s where s.tenant_id = w.tenant_id), '-infinity'))
    limit lim
$$;

create function fulcrum.tenants_with_budget_windows(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    with recursive walk(tenant_id) as (
        (select b.tenant_id from fulcrum.budget_windows b
         where b.tenant_id > after order by b.tenant_id limit 1)
        union all
        select (select b.tenant_id from fulcrum.budget_windows b
                where b.tenant_id > walk.tenant_id order by b.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select tenant_id from walk where tenant_id is not null limit lim
$$;

-- Versions of the budget bundles of the transaction's own tenants. Bundles are
-- protected singly; a ledger batch spans tenants. In plpgsql, which keeps its
-- plan: this is asked for every batch.
create function fulcrum.budget_bundle_versions() returns table (tenant_id uuid, version bigint)
    language plpgsql stable security definer
    set search_path = pg_catalog
as $$
begin
    return query select b.tenant_id, b.version
        from unnest(fulcrum.current_tenants()) as k(id)
        cross join lateral (
            select c.tenant_id, c.version from fulcrum.config_bundles c
            where c.tenant_id = k.id and c.kind = 'budgets' offset 0) b;
end
$$;

-- Fails a batch that was decided from memory if time or configuration are not
-- what it went by: now() has to be in [not_before, not_after) and close to
-- believed, and no tenant's bundle newer than the version given. Returns now().
create function fulcrum.ledger_guard(not_before timestamptz, not_after timestamptz, believed timestamptz, tenants uuid[], versions bigint[])
    returns timestamptz
    language plpgsql stable
    set search_path = pg_catalog
as $$
begin
    if now() < not_before or now() >= not_after or abs(extract(epoch from now() - believed)) > 1 then
        raise exception 'fulcrum: time moved on' using errcode = 'FT021';
    end if;
    if exists (
        select from fulcrum.budget_bundle_versions() b
        where b.version > coalesce(versions[array_position(tenants, b.tenant_id)], 0)
    ) then
        raise exception 'fulcrum: configuration moved on' using errcode = 'FT022';
    end if;
    return now();
end
$$;
-- +goose StatementEnd
comment on function fulcrum.tenants_with_due_holds(uuid, integer) is 'owner: budget. Tenants with holds that came due since they were last swept.';
comment on function fulcrum.tenants_with_budget_windows(uuid, integer) is 'owner: budget. Tenants with a ledger, for the continuous check.';
comment on function fulcrum.ledger_guard(timestamptz, timestamptz, timestamptz, uuid[], bigint[]) is 'owner: budget. What a batch that was decided from memory rests on, checked in its transaction.';
comment on function fulcrum.budget_bundle_versions() is 'owner: budget. Which version of its budgets each tenant of the transaction is at.';
alter function fulcrum.tenants_with_due_holds(uuid, integer) owner to fulcrum_scout;
alter function fulcrum.tenants_with_budget_windows(uuid, integer) owner to fulcrum_scout;
alter function fulcrum.budget_bundle_versions() owner to fulcrum_scout;
grant execute on function
    fulcrum.tenants_with_due_holds(uuid, integer),
    fulcrum.tenants_with_budget_windows(uuid, integer),
    fulcrum.budget_bundle_versions(),
    fulcrum.ledger_guard(timestamptz, timestamptz, timestamptz, uuid[], bigint[])
to fulcrum_app;

-- +goose Down
drop function fulcrum.ledger_guard(timestamptz, timestamptz, timestamptz, uuid[], bigint[]);
drop function fulcrum.budget_bundle_versions();
drop function fulcrum.tenants_with_budget_windows(uuid, integer);
drop function fulcrum.tenants_with_due_holds(uuid, integer);
drop policy scout_select on fulcrum.config_bundles;
drop policy scout_select on fulcrum.budget_windows;
revoke select on fulcrum.config_bundles from fulcrum_scout;
drop table fulcrum.hold_sweeps;
drop policy scout_select on fulcrum.reservations;
revoke select on fulcrum.reservations, fulcrum.budget_windows from fulcrum_scout;
