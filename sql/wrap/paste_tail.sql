-- Remember it where `supabase db push` and `logline migrate` look.
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text not null primary key,
    statements text[],
    name text
);
insert into supabase_migrations.schema_migrations (version, name)
values ('20261123000000', 'loglineos_0_1_0')
on conflict do nothing;

commit;
