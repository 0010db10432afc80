-- +goose Up
-- Telemetry is kept by day and forgotten by day: in chunks where TimescaleDB is
-- installed, in native partitions elsewhere, under the same names.

-- +goose StatementBegin
-- ensure_days creates the daily partitions of a table in metrics that is
-- partitioned by range of one timestamptz: the days from behind before today to
-- ahead after it, and a default. Rows that already fell into the default move.
-- A hypertable makes its own chunks. Safe to call at any time, by anybody at once.
create function metrics.ensure_days(parent regclass, behind integer default 1, ahead integer default 3) returns integer
    language plpgsql security definer
    set search_path = pg_catalog
    set lock_timeout = '1s'
    set timezone = 'UTC'
as $$
declare
    base     text;
    keycol   text;
    keeper   text;
    part     text;
    fallback text;
    day      timestamptz;
    made     integer := 0;
begin
    select c.relname, a.attname, pg_get_userbyid(c.relowner) into base, keycol, keeper
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_partitioned_table p on p.partrelid = c.oid
    join pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
    where c.oid = parent and n.nspname = 'metrics'
      and p.partstrat = 'r' and p.partnatts = 1 and a.atttypid = 'timestamptz'::regtype;
    if not found then
        if exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where c.oid = parent and n.nspname = 'metrics' and c.relkind = 'r') then
            return 0;
        end if;
        raise exception '% is not a table of metrics', parent;
    end if;
    if behind not between 0 and 31 or ahead not between 0 and 31 then
        raise exception 'behind and ahead are 0 to 31 days';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('metrics.ensure_days ' || parent::oid, 0));

    fallback := format('metrics.%I', base || '_default');
    if to_regclass(fallback) is null then
        execute format('create table %s partition of %s default', fallback, parent);
        execute format('alter table %s enable row level security', fallback);
        execute format('alter table %s owner to %I', fallback, keeper);
        made := made + 1;
    end if;

    for i in -behind .. ahead loop
        day := date_trunc('day', now()) + make_interval(days => i);
        part := format('metrics.%I', base || to_char(day, '"_y"YYYY"m"MM"d"DD'));
        continue when to_regclass(part) is not null;
        execute format('create table %s (like %s including defaults including constraints including storage)', part, parent);
        -- Rows that came before their partition did.
        execute format('with late as (delete from %s where %I >= %L and %I < %L returning *) insert into %s select * from late',
            fallback, keycol, day, keycol, day + interval '1 day', part);
        execute format('alter table %s attach partition %s for values from (%L) to (%L)',
            parent, part, day, day + interval '1 day');
        execute format('alter table %s enable row level security', part);
        execute format('alter table %s owner to %I', part, keeper);
        made := made + 1;
    end loop;
    return made;
end
$$;

-- drop_days drops the partitions, or chunks, of days that ended before the given time.
create function metrics.drop_days(parent regclass, ended_before timestamptz) returns integer
    language plpgsql security definer
    set search_path = pg_catalog
    set lock_timeout = '1s'
    set timezone = 'UTC'
as $$
declare
    timescale text := (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb');
    part      regclass;
    dropped   integer := 0;
begin
    if not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = parent and n.nspname = 'metrics') then
        raise exception '% is not a table of metrics', parent;
    end if;
    if timescale is not null and not exists (select from pg_partitioned_table where partrelid = parent) then
        execute format('select count(*) from %I.drop_chunks($1, older_than => $2)', timescale) into dropped using parent, ended_before;
        return dropped;
    end if;
    for part in
        select i.inhrelid::regclass
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = parent and c.relname ~ '_y\d{4}m\d{2}d\d{2}$'
          and to_timestamp(right(c.relname, 10), 'YYYY"m"MM"d"DD') + interval '1 day' <= ended_before
    loop
        execute format('drop table %s', part);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;
-- +goose StatementEnd
comment on function metrics.ensure_days(regclass, integer, integer) is 'owner: event-processor. Makes the daily partitions that are due.';
comment on function metrics.drop_days(regclass, timestamptz) is 'owner: event-processor. Retention: drops whole days.';
grant execute on function metrics.ensure_days(regclass, integer, integer) to fulcrum_app, fulcrum_retention;
grant execute on function metrics.drop_days(regclass, timestamptz) to fulcrum_retention;

-- +goose Down
drop function metrics.drop_days(regclass, timestamptz);
drop function metrics.ensure_days(regclass, integer, integer);
