-- The login of the sidecar: a member of loglineos_sidecar and of nothing else, which may replicate.
--
--     LOGLINE_PASSWORD=… psql -v ON_ERROR_STOP=1 -f scripts/deploy/login.sql "$OWNER_URL"
--
-- after `logline migrate`, as who may make such a role (a superuser; on RDS the master user). Running it again
-- changes the password. LOGLINE_LOGIN names another login than logline_app.
\set ON_ERROR_STOP on
\getenv password LOGLINE_PASSWORD
\getenv login LOGLINE_LOGIN
\if :{?login}
\else
    \set login logline_app
\endif
\if :{?password}
\else
    do $$ begin raise exception 'set LOGLINE_PASSWORD'; end $$;
\endif
begin;
select format('create role %I login', :'login')
where not exists (select from pg_roles where rolname = :'login')
\gexec
select format('alter role %I login password %L', :'login', :'password')
\gexec
-- RDS has a role in the place of the attribute, and refuses that.
select case
    when to_regrole('rds_replication') is not null then format('grant rds_replication to %I', :'login')
    else format('alter role %I replication', :'login')
end
\gexec
select format('grant loglineos_sidecar to %I', :'login')
\gexec
commit;
