-- 60 timeline: what is now, and what ever was. Both obey the reader's own rights.
--
-- Views without security_barrier: it would make the planner read and sort everything that a view holds
-- before it looks at order and limit (docs/plans.md), and would hide nothing: what a view leaves out, its
-- reader may read in history. Whose rows one may read is the policies' affair, and those do hold leaky
-- functions off.

-- Definer: the newest version may be hidden from a reader of an older one, and then the older one is
-- no longer what is. It tells about what its caller may read and of nothing else: whoever asks after
-- another's span hears the same as after none. The policies' rules (50_access) are said again here,
-- because a definer's query is not under its caller's. plan_cache_mode: as_of sets it for itself, and what
-- it calls would inherit that and plan anew for each row.
create or replace function ledger_private.is_superseded(
    p_id uuid,
    p_seq integer,
    p_at timestamptz default 'infinity'
)
returns boolean
language plpgsql
stable
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
    v_caller text;
    v_user text;
    v_tenant text;
begin
    if not exists (
        select
        from ledger.universal_registry as newer
        where newer.id = p_id
            and newer.seq > p_seq
            and newer.accepted_at <= p_at
    ) then
        return false;
    end if;

    -- Inside a definer function current_user is its owner; the role that was set is still in sight.
    v_caller := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    if v_caller = 'loglineos_kernel' then
        v_user := nullif(current_setting('app.user_id', true), '');
        v_tenant := nullif(current_setting('app.tenant_id', true), '');
    elsif v_caller <> 'authenticated' and (
        v_caller = current_user
        or pg_has_role(v_caller, 'service_role', 'usage')
        or pg_has_role(v_caller, 'loglineos_sidecar', 'usage')
        or exists (select from pg_roles where rolname = v_caller and rolbypassrls)
    ) then
        return true;
    elsif pg_has_role(v_caller, 'authenticated', 'usage') then
        v_user := ledger.current_user_id();
        v_tenant := ledger.current_tenant_id();
    end if;
    return v_user is not null and exists (
        select
        from ledger.universal_registry as r
        where r.id = p_id
            and r.seq = p_seq
            and case r.visibility
                when 'tenant' then r.tenant_id = v_tenant
                when 'public' then true
                else r.owner_id = v_user and r.tenant_id = v_tenant
            end
    );
end
$$;

comment on function ledger_private.is_superseded(uuid, integer, timestamptz) is
    'Whether this version has a newer one that was there at p_at, visible to the caller or not. False '
    'also for whatever the caller may not read. For the views.';

-- A scalar subquery on purpose. Of "not exists" the planner makes a join or a hash of the whole ledger, and
-- of "is null" it guesses that hardly a row is left: either way it reads all where a page was asked for.
create or replace view ledger.visible_timeline
with (security_invoker = true)
as
select
    r.at as "when",
    r.*
from ledger.universal_registry as r
where not r.is_deleted
    and not coalesce(
        (
            select true
            from ledger.universal_registry as newer
            where newer.id = r.id
                and newer.seq = r.seq + 1
        ),
        false
    )
    -- Who reads a private row reads all its versions: the test above was exact. Others ask.
    and (r.visibility = 'private' or not ledger_private.is_superseded(r.id, r.seq));

comment on view ledger.visible_timeline is
    'The newest version of every span that the reader may see and that is not deleted. Served by an '
    'index with a filter on id, owner_id, tenant_id, parent_id or trace_id; order by "when" desc, id desc, '
    'alone or with owner_id, tenant_id, or tenant_id and entity_type. Who may see little of a large ledger '
    'states owner_id or tenant_id, or asks ledger.as_of.';

create or replace view ledger.history
with (security_invoker = true)
as
select
    r.at as "when",
    r.*
from ledger.universal_registry as r;

comment on view ledger.history is
    'All versions of every span that the reader may see, tombstones included.';

-- The columns say the same as in the table.
do $comments$
declare
    v_column record;
begin
    for v_column in
        select
            c.relname as view_name,
            a.attname as column_name,
            pg_catalog.col_description('ledger.universal_registry'::regclass, t.attnum) as comment
        from pg_catalog.pg_class as c
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
        join pg_catalog.pg_attribute as t
            on t.attrelid = 'ledger.universal_registry'::regclass
            and t.attname = case a.attname when 'when' then 'at' else a.attname end
        where c.oid in ('ledger.visible_timeline'::regclass, 'ledger.history'::regclass)
    loop
        execute format(
            'comment on column ledger.%I.%I is %L',
            v_column.view_name, v_column.column_name, v_column.comment
        );
    end loop;
end
$comments$;

revoke all on ledger.visible_timeline, ledger.history
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant select on ledger.visible_timeline, ledger.history
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

revoke all on function ledger_private.is_superseded(uuid, integer, timestamptz)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.is_superseded(uuid, integer, timestamptz)
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- Until 0.2.0 the view asked this one, and it told anybody about anything. Here and not in sql/upgrade,
-- because the view had to be made anew before.
drop function if exists ledger.has_version(uuid, integer);
