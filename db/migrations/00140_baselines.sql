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
-- By the day first: no look-up by tenant and id can take this index for its own.
create index baselines_idle on fulcrum.baselines (touched_on, tenant_id);
select fulcrum.protect_list('fulcrum.baselines');
grant select, insert, update, delete on fulcrum.baselines to fulcrum_app;
grant select on fulcrum.baselines to fulcrum_scout;
create policy scout_select on fulcrum.baselines for select to fulcrum_scout using (true);

-- +goose StatementBegin
-- with_values adds values to what others came to. Welford's way, with at most two
-- hundred values behind the mean: exact up to there, and from there on older values
-- fade.
create function fulcrum.with_values(inout samples bigint, inout mean double precision, inout variance double precision, seen double precision[])
    language plpgsql immutable
    set search_path = pg_catalog
as $$
declare
    x double precision;
    k double precision;
    d double precision;
begin
    foreach x in array seen loop
        -- Squares of what is larger, or of a difference that is smaller, are no numbers
        -- any more: an error, which would keep a decision from the record.
        x := least(greatest(x, -1e100), 1e100);
        samples := samples + 1;
        k := least(samples, 200);
        d := x - mean;
        if abs(d) < 1e-100 then
            d := 0;
        end if;
        mean := mean + d / k;
        variance := (1 - 1 / k) * (variance + d * d / k);
        if variance < 1e-200 then
            variance := 0;
        end if;
    end loop;
end
$$;

-- learn_baselines adds values to histories, which it locks in one order everywhere:
-- no two transactions wait for each other. The conflict finds a row by its key,
-- whatever the planner thinks of the table.
create function fulcrum.learn_baselines(tenants uuid[], ids uuid[], labels text[], seen double precision[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog
as $$
declare
    r record;
begin
    for r in
        select i.tenant_id, i.id, min(i.label) as label, array_agg(i.x order by i.no) as xs
          from unnest(tenants, ids, labels, seen) with ordinality as i (tenant_id, id, label, x, no)
         group by i.tenant_id, i.id
         order by i.tenant_id, i.id
    loop
        insert into fulcrum.baselines as b (tenant_id, id, label, samples, mean, variance)
        select r.tenant_id, r.id, r.label, f.samples, f.mean, f.variance
          from fulcrum.with_values(0, 0, 0, r.xs) f
        on conflict (tenant_id, id) do update
           set (samples, mean, variance) = (select f.samples, f.mean, f.variance from fulcrum.with_values(b.samples, b.mean, b.variance, r.xs) f),
               touched_on = current_date;
    end loop;
end
$$;

create function fulcrum.gateway_baseline_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    select distinct b.tenant_id
      from fulcrum.baselines b
     where b.touched_on < current_date - 30 and b.tenant_id > after
     order by b.tenant_id
     limit lim
$$;
-- +goose StatementEnd
grant execute on function
    fulcrum.with_values(bigint, double precision, double precision, double precision[]),
    fulcrum.learn_baselines(uuid[], uuid[], text[], double precision[])
to fulcrum_app;
comment on function fulcrum.gateway_baseline_tenants(uuid, integer) is 'owner: gateway. Tenants with histories of fields that nothing was added to for a month.';
alter function fulcrum.gateway_baseline_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.gateway_baseline_tenants(uuid, integer) to fulcrum_app;

-- +goose Down
drop function fulcrum.gateway_baseline_tenants(uuid, integer);
drop function fulcrum.learn_baselines(uuid[], uuid[], text[], double precision[]);
drop function fulcrum.with_values(bigint, double precision, double precision, double precision[]);
drop table fulcrum.baselines;
