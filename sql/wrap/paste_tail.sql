-- Remember it where `supabase db push` and `logline migrate` look.
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text not null primary key,
    statements text[],
    name text
);
insert into supabase_migrations.schema_migrations (version, name)
values
    ('@before_stamp@', 'loglineos_@before_@'),
    ('@stamp@', 'loglineos_@version_@')
on conflict do nothing;

commit;
