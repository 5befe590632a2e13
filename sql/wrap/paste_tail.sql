-- Remember it where `supabase db push` and `logline migrate` look.
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text not null primary key,
    statements text[],
    name text
);
-- The same question as in 00_schemas: an insert runs the triggers of whose table it is.
do $strangers$
declare
    v_owner name := (
        select o.rolname
        from (
            select nspowner
            from pg_catalog.pg_namespace
            where oid = 'supabase_migrations'::regnamespace
            union all
            select relowner
            from pg_catalog.pg_class
            where oid = 'supabase_migrations.schema_migrations'::regclass
        ) as found (owner)
        join pg_catalog.pg_roles as o on o.oid = found.owner
        join pg_catalog.pg_roles as me on me.rolname = current_user
        where not o.rolsuper
            and o.oid <> me.oid
            and (me.rolsuper or not pg_catalog.pg_has_role(o.oid, 'usage'))
        limit 1
    );
begin
    if v_owner is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'supabase_migrations.schema_migrations, or its schema, belongs to ' || v_owner,
            hint = format('If %I owns this database''s migrations, run it as %I (set role). If not, look what '
                'it is, and drop it.', v_owner, v_owner);
    end if;
end
$strangers$;
insert into supabase_migrations.schema_migrations (version, name)
values
    ('@before_stamp@', 'loglineos_@before_@'),
    ('@stamp@', 'loglineos_@version_@')
on conflict do nothing;

commit;
