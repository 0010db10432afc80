-- +goose Up
create table fulcrum.limit_counters (
    tenant_id   uuid        not null,
    id          uuid        not null,
    label       text        not null,
    -- Of a counter that counts an envelope or a session apart: it goes with that.
    envelope_id uuid,
    taken       bigint      not null default 0 check (taken >= 0),
    touched_at  timestamptz not null default now(),
    primary key (tenant_id, id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
comment on table fulcrum.limit_counters is 'owner: gateway. What limits count: taken is the sum of the counter''s entries. Its row is locked by every decision that counts on it, which makes limits exact.';
comment on column fulcrum.limit_counters.id is 'a digest of who wrote the limit, what it counts, for how long, and of whom';
comment on column fulcrum.limit_counters.label is 'the same in words, for operators';
comment on column fulcrum.limit_counters.envelope_id is 'of by envelope the envelope, of by session its root';
create index limit_counters_idle on fulcrum.limit_counters (tenant_id, touched_at);
select fulcrum.protect_list('fulcrum.limit_counters');
grant select, insert, update, delete on fulcrum.limit_counters to fulcrum_app;

create table fulcrum.limit_entries (
    tenant_id   uuid        not null,
    decision_id uuid        not null,
    counter_id  uuid        not null,
    envelope_id uuid,
    unit        text        not null check (unit in ('calls', 'usd', 'tokens', 'slot', 'mark')),
    amount      bigint      not null check (amount >= 0),
    keep        boolean     not null,
    taken_at    timestamptz not null,
    until       timestamptz not null,
    primary key (tenant_id, counter_id, until, decision_id) -- the order in which they are dropped
) with (autovacuum_vacuum_scale_factor = 0.02);
comment on table fulcrum.limit_entries is 'owner: gateway. One decision''s part of one counter, until it counts no more. Gone with that, so a counter has no more of them than its limit lets through.';
comment on column fulcrum.limit_entries.unit is 'a slot is of a limit on what runs in parallel, a mark is what later rules look at';
comment on column fulcrum.limit_entries.keep is 'it counts even if the action turns out not to have happened';
create index limit_entries_decision on fulcrum.limit_entries (tenant_id, decision_id);
create index limit_entries_slots on fulcrum.limit_entries (tenant_id, envelope_id) where unit = 'slot' and envelope_id is not null;
select fulcrum.protect_list('fulcrum.limit_entries');
grant select, insert, update, delete on fulcrum.limit_entries to fulcrum_app;

grant select on fulcrum.limit_counters, fulcrum.limit_entries to fulcrum_scout;
create policy scout_select on fulcrum.limit_counters for select to fulcrum_scout using (true);
create policy scout_select on fulcrum.limit_entries for select to fulcrum_scout using (true);

-- +goose StatementBegin
create function fulcrum.gateway_limit_tenants(after uuid, lim integer) returns setof uuid
    language sql stable security definer
    set search_path = pg_catalog
as $$
    -- One index probe a tenant, however many rows each has.
    with recursive walk(tenant_id) as (
        (select c.tenant_id from fulcrum.limit_counters c
         where c.tenant_id > after order by c.tenant_id limit 1)
        union all
        select (select c.tenant_id from fulcrum.limit_counters c
                where c.tenant_id > walk.tenant_id order by c.tenant_id limit 1)
        from walk where walk.tenant_id is not null
    )
    select w.tenant_id from walk w
     where w.tenant_id is not null
       and exists (select from fulcrum.limit_counters c
                    where c.tenant_id = w.tenant_id and c.touched_at <= now() - case when c.taken > 0 then interval '10 minutes' else interval '1 hour' end)
     limit lim
$$;
-- +goose StatementEnd
comment on function fulcrum.gateway_limit_tenants(uuid, integer) is 'owner: gateway. Tenants with counters of limits that nobody asked for a while.';
alter function fulcrum.gateway_limit_tenants(uuid, integer) owner to fulcrum_scout;
grant execute on function fulcrum.gateway_limit_tenants(uuid, integer) to fulcrum_app;

-- The following change rows of counters that are locked, by where they lie, so
-- that no plan made while the tables were empty reads them whole.
-- +goose StatementBegin
-- lapse_limits drops what counts no more, and returns how much that was. The time
-- is read after the locks: of two decisions on one counter, the later one is
-- never of an earlier time.
create function fulcrum.lapse_limits(tenants uuid[], ids uuid[], out tenant_id uuid, out id uuid, out at timestamptz, out lapsed bigint) returns setof record
    language plpgsql volatile
    set search_path = pg_catalog
as $$
#variable_conflict use_column
declare
    moment constant timestamptz := clock_timestamp();
begin
    return query
        with input as materialized (
            select k.tenant_id, k.id from unnest(tenants, ids) as k (tenant_id, id)
        ), gone as (
            delete from fulcrum.limit_entries e
             where e.ctid = any (array(
                   select x.ctid
                     from input k
                    cross join lateral (
                          select l.ctid from fulcrum.limit_entries l
                           where l.tenant_id = k.tenant_id and l.counter_id = k.id and l.until <= moment offset 0) x))
            returning e.tenant_id, e.counter_id, e.amount
        )
        select k.tenant_id, k.id, moment, coalesce(sum(g.amount), 0)::bigint
          from input k
          left join gone g on g.tenant_id = k.tenant_id and g.counter_id = k.id
         group by k.tenant_id, k.id;
end
$$;

-- end_limits frees the slots of decisions and, of those whose action did not
-- happen, all that is not kept.
create function fulcrum.end_limits(tenants uuid[], decisions uuid[], undone boolean[], out tenant_id uuid, out id uuid, out amount bigint) returns setof record
    language plpgsql volatile
    set search_path = pg_catalog
as $$
#variable_conflict use_column
begin
    return query
        delete from fulcrum.limit_entries e
         where e.ctid = any (array(
               select x.ctid
                 from unnest(tenants, decisions, undone) as k (tenant_id, decision_id, undone)
                cross join lateral (
                      select l.ctid from fulcrum.limit_entries l
                       where l.tenant_id = k.tenant_id and l.decision_id = k.decision_id and (l.unit = 'slot' or k.undone and not l.keep) offset 0) x))
        returning e.tenant_id, e.counter_id, e.amount;
end
$$;

-- charge_limits puts what was really used in the place of what it might have
-- been, and returns the differences.
create function fulcrum.charge_limits(tenants uuid[], decisions uuid[], usds bigint[], tokens bigint[], out tenant_id uuid, out id uuid, out delta bigint) returns setof record
    language plpgsql volatile
    set search_path = pg_catalog
as $$
#variable_conflict use_column
begin
    return query
        update fulcrum.limit_entries e
           set amount = w.used
          from (select x.place, x.amount, case x.unit when 'usd' then k.usd else k.tokens end as used
                  from unnest(tenants, decisions, usds, tokens) as k (tenant_id, decision_id, usd, tokens)
                 cross join lateral (
                       select l.ctid as place, l.unit, l.amount from fulcrum.limit_entries l
                        where l.tenant_id = k.tenant_id and l.decision_id = k.decision_id and l.unit in ('usd', 'tokens') offset 0) x
               ) w
         where e.ctid = w.place and w.used <> w.amount
        returning e.tenant_id, e.counter_id, w.used - w.amount;
end
$$;

create function fulcrum.count_limits(tenants uuid[], ids uuid[], deltas bigint[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog
as $$
begin
    update fulcrum.limit_counters c
       set taken = c.taken + w.delta
      from (select x.place, k.delta
              from unnest(tenants, ids, deltas) as k (tenant_id, id, delta)
             cross join lateral (
                   select l.ctid as place from fulcrum.limit_counters l where l.tenant_id = k.tenant_id and l.id = k.id offset 0) x
           ) w
     where c.ctid = w.place;
end
$$;
-- +goose StatementEnd
grant execute on function
    fulcrum.lapse_limits(uuid[], uuid[]), fulcrum.end_limits(uuid[], uuid[], boolean[]),
    fulcrum.charge_limits(uuid[], uuid[], bigint[], bigint[]), fulcrum.count_limits(uuid[], uuid[], bigint[])
to fulcrum_app;

-- +goose Down
drop function fulcrum.count_limits(uuid[], uuid[], bigint[]);
drop function fulcrum.charge_limits(uuid[], uuid[], bigint[], bigint[]);
drop function fulcrum.end_limits(uuid[], uuid[], boolean[]);
drop function fulcrum.lapse_limits(uuid[], uuid[]);
drop function fulcrum.gateway_limit_tenants(uuid, integer);
drop table fulcrum.limit_entries;
drop table fulcrum.limit_counters;
