-- Roles are of the cluster, not of one database: many databases may be set up
-- at once, so each step tolerates that another session has just done it.
do $$
declare
    r record;
begin
    for r in
        select * from (values
            ('fulcrum_owner',     'nologin'),
            ('fulcrum_scout',     'nologin'),
            ('fulcrum_admin',     'nologin'),
            ('fulcrum_migrate',   'login'),
            ('fulcrum_app',       'login'),
            ('fulcrum_retention', 'login'),
            ('fulcrum_backup',    'login'),
            -- TimescaleDB runs its policies as the owner and refuses one without LOGIN.
            ('metrics_owner',     'login connection limit 0')
        ) as roles(name, options)
        where not exists (select from pg_catalog.pg_roles where rolname = roles.name)
    loop
        begin
            execute format('create role %I %s', r.name, r.options);
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;

    -- pg_dump reads past row level security only as such a role; managed
    -- servers may not allow it, and take their backups themselves.
    if exists (select from pg_catalog.pg_roles where rolname = 'fulcrum_backup' and not rolbypassrls) then
        begin
            alter role fulcrum_backup bypassrls;
        exception when insufficient_privilege then
            raise notice 'fulcrum_backup has no BYPASSRLS: pg_dump as it will refuse';
        end;
    end if;

    for r in
        select * from (values
            ('fulcrum_owner', 'fulcrum_migrate'),
            ('fulcrum_scout', 'fulcrum_owner'),
            ('fulcrum_admin', 'fulcrum_owner'),
            ('metrics_owner', 'fulcrum_owner')
        ) as members(of, member)
        where not pg_catalog.pg_has_role(members.member, members.of, 'member')
    loop
        begin
            execute format('grant %I to %I', r.of, r.member);
        exception when unique_violation then
            null;
        end;
    end loop;

    for r in
        select * from (values
            ('fulcrum_app',       'statement_timeout',                   '5s'),
            ('fulcrum_app',       'lock_timeout',                        '1s'),
            ('fulcrum_app',       'idle_in_transaction_session_timeout', '10s'),
            ('fulcrum_app',       'search_path',                         'pg_catalog'),
            ('fulcrum_retention', 'lock_timeout',                        '1s'),
            ('fulcrum_retention', 'search_path',                         'pg_catalog'),
            ('fulcrum_backup',    'row_security',                        'off'),
            ('fulcrum_backup',    'default_transaction_read_only',       'on')
        ) as settings(role, name, value)
        where not exists (
            select from pg_catalog.pg_db_role_setting s
            join pg_catalog.pg_roles g on g.oid = s.setrole
            where g.rolname = settings.role and s.setdatabase = 0
              and settings.name || '=' || settings.value = any (s.setconfig)
        )
    loop
        execute format('alter role %I set %I = %L', r.role, r.name, r.value);
    end loop;
end
$$;
