-- +goose Up
create table fulcrum.baselines (
    tenant_id  uuid             not null,
    id         uuid             not null,
    label      text             not null,
    samples    bigint           not null default 0 check (samples >= 0),
    mean       double precision not null default 0,
    variance   double precision not null default 0 check (variance >= 0),
    touched_on date             not null default current_date,
    primary key (tenant_id, id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
comment on table fulcrum.baselines is 'owner: gateway. What the values of a field came to in the actions that were allowed: what a STATISTICAL_SPIKE condition compares with. Written with the decisions themselves, so each counts once.';
comment on column fulcrum.baselines.id is 'a digest of the policy and the field, and of whose values they are';
comment on column fulcrum.baselines.label is 'the same in words, for operators';
comment on column fulcrum.baselines.samples is 'all that were counted; mean and variance are of the last two hundred above all';
create index baselines_idle on fulcrum.baselines (tenant_id, touched_on);
select fulcrum.protect_list('fulcrum.baselines');
grant select, insert, update, delete on fulcrum.baselines to fulcrum_app;
grant select on fulcrum.baselines to fulcrum_scout;
create policy scout_select on fulcrum.baselines for select to fulcrum_scout using (true);

-- +goose StatementBegin
create function fulcrum.learn_baselines(tenants uuid[], ids uuid[], labels text[], seen double precision[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog
    set enable_seqscan = off
as $$
declare
    -- Welford's way, with at most so many values behind the mean: exact up to
    -- there, and from there on older values fade.
    depth constant double precision := 200;
    r record;
    x double precision;
    n bigint;
    m double precision;
    v double precision;
    k double precision;
    d double precision;
begin
    -- In one order everywhere, so that no two transactions wait for each other.
    for r in
        select i.tenant_id, i.id, min(i.label) as label, array_agg(i.x order by i.no) as xs
          from unnest(tenants, ids, labels, seen) with ordinality as i (tenant_id, id, label, x, no)
         group by i.tenant_id, i.id
         order by i.tenant_id, i.id
    loop
        loop
            select b.samples, b.mean, b.variance into n, m, v
              from fulcrum.baselines b
             where b.tenant_id = r.tenant_id and b.id = r.id
               for update;
            exit when found;
            insert into fulcrum.baselines (tenant_id, id, label) values (r.tenant_id, r.id, r.label) on conflict do nothing;
        end loop;
        foreach x in array r.xs loop
            -- Squares of what is larger, or of a difference that is smaller, are no
            -- numbers any more: an error, which would keep a decision from the record.
            x := least(greatest(x, -1e100), 1e100);
            n := n + 1;
            k := least(n, depth);
            d := x - m;
            if abs(d) < 1e-100 then
                d := 0;
            end if;
            m := m + d / k;
            v := (1 - 1 / k) * (v + d * d / k);
            if v < 1e-200 then
                v := 0;
            end if;
        end loop;
        update fulcrum.baselines b
           set samples = n, mean = m, variance = v, touched_on = current_date
         where b.tenant_id = r.tenant_id and b.id = r.id;
    end loop;
end
$$;

create function fulcrum.gateway_baseline_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    -- One index probe a tenant, however many rows each has.
    with recursive walk(tenant_id) as (
        (select b.tenant_id from fulcrum.baselines b
         where b.tenant_id > after order by b.tenant_id limit 1)
        union all
        select (select b.tenant_id from fulcrum.baselines b
                where b.tenant_id > walk.tenant_id order by b.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select w.tenant_id from walk w
     where w.tenant_id is not null
       and exists (select from fulcrum.baselines b where b.tenant_id = w.tenant_id and b.touched_on < current_date - 30)
     limit lim
$$;
-- +goose StatementEnd
grant execute on function fulcrum.learn_baselines(uuid[], uuid[], text[], double precision[]) to fulcrum_app;
comment on function fulcrum.gateway_baseline_tenants(uuid, integer) is 'owner: gateway. Tenants with histories of fields that nothing was added to for a month.';
alter function fulcrum.gateway_baseline_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.gateway_baseline_tenants(uuid, integer) to fulcrum_app;

-- +goose Down
drop function fulcrum.gateway_baseline_tenants(uuid, integer);
drop function fulcrum.learn_baselines(uuid[], uuid[], text[], double precision[]);
drop table fulcrum.baselines;
