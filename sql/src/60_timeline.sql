-- 60 timeline: what is now, and what ever was. Both obey the reader's own rights.

-- Definer: the newest version may be hidden from a reader of an older one, and then the older one is
-- no longer what is. The parameters have no names so that PostgREST can not offer it as a call.
create or replace function ledger.has_version(uuid, integer)
returns boolean
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from ledger.universal_registry as r
        where r.id = $1
            and r.seq = $2
    );
end
$$;

comment on function ledger.has_version(uuid, integer) is
    'Whether this version of this span exists, whoever may read it. For visible_timeline.';

create or replace view ledger.visible_timeline
with (security_invoker = true, security_barrier = true)
as
select
    r.at as "when",
    r.*
from ledger.universal_registry as r
where not r.is_deleted
    and not exists (
        select
        from ledger.universal_registry as newer
        where newer.id = r.id
            and newer.seq = r.seq + 1
    )
    -- Who reads a private row reads all its versions: the test above was exact. Others ask.
    and (r.visibility = 'private' or not ledger.has_version(r.id, r.seq + 1));

comment on view ledger.visible_timeline is
    'The newest version of every span that the reader may see and that is not deleted.';

create or replace view ledger.history
with (security_invoker = true, security_barrier = true)
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

revoke all on function ledger.has_version(uuid, integer)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.has_version(uuid, integer)
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
