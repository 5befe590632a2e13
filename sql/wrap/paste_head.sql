-- LogLineOS @version@: paste this whole file into a SQL editor and run it. It installs the ledger in an
-- empty database, brings one of @before@ to @version@, and puts up again what has fallen on one of @version@.
-- With psql: psql -q -v ON_ERROR_STOP=1 -f loglineos.sql
-- Generated from sql/src by scripts/sqlbuild. Do not edit.

begin;
set local client_min_messages = warning;

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
        if string_to_array(v_version, '.')::integer[] > string_to_array('@version@', '.')::integer[] then
            raise exception using
                message = 'this database has a ledger of version ' || v_version || ', this file brings @version@',
                hint = 'Nothing to do, or take the file of that version.';
        end if;
    end if;
end
$guard$;

