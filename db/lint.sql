-- Each row is a hole in the isolation of tenants, or a way to make one.
-- $1 is the role that services log in as.
with ours as (
    select n.oid, n.nspname from pg_namespace n
    where n.nspname in ('fulcrum', 'metrics') or starts_with(n.nspname, 'tenant_')
),
rel as (
    select c.oid, c.relkind, c.relispartition, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relowner, o.nspname,
           format('%I.%I', o.nspname, c.relname) as name,
           (select a.attnum from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) as tenant_att,
           has_any_column_privilege($1, c.oid, 'select,insert,update,references')
               or has_table_privilege($1, c.oid, 'delete,truncate,trigger') as reachable
    from pg_class c join ours o on o.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
),
-- Parents of partitions, or of TimescaleDB's chunks wherever those live.
child as (
    select i.inhrelid as oid, format('%I.%I', n.nspname, c.relname) as name
    from pg_inherits i
    join rel p on p.oid = i.inhparent
    join pg_class c on c.oid = i.inhrelid
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'f')
),
tenant_table as (
    select * from rel
    where relkind in ('r', 'p') and tenant_att is not null
      and oid not in (select oid from child)
      -- metrics are kept from the app by having no grant at all, see partition and view below
      and (nspname <> 'metrics' or reachable)
),
policy as (
    select p.polname, p.polcmd, p.polpermissive, p.polroles, t.oid, t.name,
           pg_get_expr(p.polqual, p.polrelid) as using_expr,
           pg_get_expr(p.polwithcheck, p.polrelid) as check_expr
    from pg_policy p join tenant_table t on t.oid = p.polrelid
),
form(expr) as (
    values ('(tenant_id = ( SELECT fulcrum.current_tenant() AS current_tenant))'),
           ('(tenant_id = ANY (( SELECT fulcrum.current_tenants() AS current_tenants)::uuid[]))')
),
finding(rule, object, detail, hint) as (
    select 'rls', name, 'row level security is not enabled', 'select fulcrum.protect(''' || name || ''')'
    from tenant_table where not relrowsecurity
    union all
    select 'force', name, 'row level security does not bind the owner', 'alter table ' || name || ' force row level security'
    from tenant_table where relrowsecurity and not relforcerowsecurity
    union all
    select 'nullable', t.name, 'tenant_id is not a uuid not null', 'a row without a tenant belongs to nobody and to everybody'
    from tenant_table t join pg_attribute a on a.attrelid = t.oid and a.attnum = t.tenant_att
    where not a.attnotnull or a.atttypid <> 'uuid'::regtype
    union all
    select 'policy', t.name, 'no policy for ' || k.command, 'select fulcrum.protect(''' || t.name || ''')'
    from tenant_table t,
         (values ('r', 'select'), ('a', 'insert'), ('w', 'update'), ('d', 'delete')) as k(cmd, command)
    where t.relrowsecurity and has_table_privilege($1, t.oid, k.command)
      and not exists (
          select from policy p where p.oid = t.oid and p.polpermissive and p.polcmd::text in (k.cmd, '*')
            and exists (select from unnest(p.polroles) r where r = 0 or pg_has_role($1, r, 'usage'))
      )
    union all
    select 'policy-form', p.name || ' ' || p.polname, coalesce(p.using_expr, '') || coalesce(' check ' || p.check_expr, ''),
           'only the forms of fulcrum.protect and protect_list are one InitPlan and refuse an unset tenant'
    from policy p
    where p.polpermissive
      -- a scout finds tenants with work, and may only read
      and not (p.polcmd = 'r' and p.using_expr = 'true'
               and p.polroles = array[(select oid from pg_roles where rolname = 'fulcrum_scout')])
      and (p.polcmd in ('r', 'w', 'd', '*') and not coalesce(p.using_expr in (select expr from form), false)
           or p.polcmd in ('a', 'w', '*') and not coalesce(p.check_expr in (select expr from form), false))
    union all
    select 'partition', name, 'a partition or chunk has a grant of its own', 'grant on the parent only: policies do not apply to its parts'
    from child
    where has_any_column_privilege($1, oid, 'select,insert,update,references') or has_table_privilege($1, oid, 'delete,truncate,trigger')
    union all
    select 'view', r.name, 'the view runs with its owner''s eyes', 'with (security_invoker = true)'
    from rel r
    where r.relkind = 'v' and r.reachable
      and not coalesce(r.reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)
      -- over tables the app may not touch: a barrier that filters by the tenant, owned by somebody ordinary
      and not (coalesce(r.reloptions && array['security_barrier=true', 'security_barrier=on', 'security_barrier=1'], false)
               and pg_get_viewdef(r.oid) ~ 'tenant_id = \( ?SELECT fulcrum\.current_tenant\(\)'
               and not exists (select from pg_roles o where o.oid = r.relowner and (o.rolsuper or o.rolbypassrls)))
    union all
    select 'matview', name, 'a materialized view has no policies and can be read', 'revoke it, and read it through a security_barrier view'
    from rel where relkind = 'm' and reachable
    union all
    select 'foreign-key', c.conname || ' on ' || t.name, 'it accepts another tenant''s row', 'foreign key (tenant_id, ...) references ' || f.name || ' (tenant_id, ...)'
    from pg_constraint c
    join rel t on t.oid = c.conrelid
    join rel f on f.oid = c.confrelid
    where c.contype = 'f' and c.conparentid = 0 and t.tenant_att is not null and f.tenant_att is not null
      and not exists (
          select from unnest(c.conkey, c.confkey) as k(here, there)
          where k.here = t.tenant_att and k.there = f.tenant_att
      )
    union all
    select 'unique', x.relname || ' on ' || t.name, 'a unique key without tenant_id tells one tenant what another has',
           'add tenant_id, or comment on index ... is ''global: why'''
    from pg_index i
    join tenant_table t on t.oid = i.indrelid
    join pg_class x on x.oid = i.indexrelid
    where i.indisunique and not t.tenant_att = any (i.indkey::int2[])
      and not starts_with(coalesce(obj_description(i.indexrelid, 'pg_class'), ''), 'global: ')
    union all
    select 'definer', p.oid::regprocedure::text, 'SECURITY DEFINER without a fixed search_path', 'set search_path = pg_catalog'
    from pg_proc p join ours o on o.oid = p.pronamespace
    where p.prosecdef and not exists (
        select from unnest(coalesce(p.proconfig, '{}')) s where starts_with(s, 'search_path=')
    )
    union all
    select 'definer-owner', p.oid::regprocedure::text, 'SECURITY DEFINER as ' || r.rolname || ', who is above row level security',
           'alter function ... owner to fulcrum_scout or fulcrum_owner'
    from pg_proc p
    join ours o on o.oid = p.pronamespace
    join pg_roles r on r.oid = p.proowner
    where p.prosecdef and (r.rolsuper or r.rolbypassrls) and has_function_privilege($1, p.oid, 'execute')
    union all
    select 'privilege', r.name, 'the app may ' || k.privilege || ' it', 'revoke ' || k.privilege || ' on ' || r.name || ' from ' || $1
    from rel r, (values ('truncate'), ('references'), ('trigger')) as k(privilege)
    where has_table_privilege($1, r.oid, k.privilege)
    union all
    select 'public', r.name, 'granted to everybody: ' || g.privilege_type, 'revoke all on ' || r.name || ' from public'
    from rel r join pg_class c on c.oid = r.oid, aclexplode(c.relacl) g
    where g.grantee = 0
    union all
    select 'tenants', 'fulcrum.tenants', 'the app reaches the table of tenants', 'only the functions of fulcrum_admin do'
    from rel where name = 'fulcrum.tenants' and reachable
)
select rule, object, detail, hint from finding order by rule, object
