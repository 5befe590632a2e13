-- LogLineOS @version@: paste this whole file into a SQL editor and run it. It installs the ledger in an
-- empty database, brings one of @before@ to @version@, and says so where there is nothing to do.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.

begin;

do $guard$
declare
    v_version text;
begin
    if exists (select from pg_catalog.pg_extension where extname = 'loglineos') then
        raise exception using
            message = 'the ledger of this database is an extension',
            hint = 'Run instead: alter extension loglineos update';
    end if;
    -- Read, not called: it is not known yet whose it is.
    v_version := (
        select substring(pg_catalog.pg_get_function_sqlbody(oid) from '[0-9]+[.][0-9]+[.][0-9]+')
        from pg_catalog.pg_proc
        where oid = to_regprocedure('ledger_private.version()')
    );
    if v_version is not null then
        if string_to_array(v_version, '.')::integer[] >= string_to_array('@version@', '.')::integer[] then
            raise exception using
                message = 'this database has a ledger of version ' || v_version || ' already',
                hint = 'Nothing to do: this file brings @version@.';
        end if;
    end if;
end
$guard$;

