-- Why the role of this connection must not serve. One row a fault.
with me as (
    select r.oid, r.rolname, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication
    from pg_roles r where r.rolname in (current_user, session_user)
),
owner as (
    select c.relowner as oid, format('%I.%I', n.nspname, c.relname) as object
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('fulcrum', 'metrics')
    union all
    select p.proowner, format('%I.%I()', n.nspname, p.proname)
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('fulcrum', 'metrics')
    union all
    select n.nspowner, 'schema ' || n.nspname from pg_namespace n where n.nspname in ('fulcrum', 'metrics')
    union all
    select d.datdba, 'database ' || d.datname from pg_database d where d.datname = current_database()
)
select format('role %s is a superuser, to whom row level security does not apply', rolname) from me where rolsuper
union all
select format('role %s has BYPASSRLS', rolname) from me where rolbypassrls and not rolsuper
union all
select format('role %s has CREATEROLE, and could give itself any right', rolname) from me where rolcreaterole and not rolsuper
union all
select format('role %s has REPLICATION, and could stream every row', rolname) from me where rolreplication and not rolsuper
union all
select format('role %s owns %s', me.rolname, (select min(o.object) from owner o where o.oid = me.oid))
from me where not me.rolsuper and me.oid in (select oid from owner)
union all
select format('role %s is a member of %s, %s', me.rolname, r.rolname,
              case when r.oid in (select oid from owner) then 'who owns ' || (select min(o.object) from owner o where o.oid = r.oid)
                   else 'who reads past the grants' end)
from me join pg_roles r on r.oid <> me.oid and pg_has_role(me.oid, r.oid, 'member')
where not me.rolsuper
  and (r.oid in (select oid from owner) or r.rolsuper or r.rolbypassrls
       or r.rolname in ('fulcrum_owner', 'fulcrum_admin', 'fulcrum_scout', 'metrics_owner', 'pg_read_all_data', 'pg_write_all_data',
                        'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))
union all
select format('role %s is not fulcrum_app nor a member of it, so no policy lets it see a row', current_user)
where not coalesce((select rolsuper from pg_roles where rolname = current_user), true)
  and not pg_has_role(current_user, (select oid from pg_roles where rolname = 'fulcrum_app'), 'usage')
