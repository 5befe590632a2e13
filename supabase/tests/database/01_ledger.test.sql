-- Ten smoke checks for `supabase test db`; the laws are tested in tests/sqlrules.

begin;

create extension if not exists pgtap;

select plan(10);

select has_table('ledger', 'universal_registry', 'the ledger is there');
select columns_are_70.ok
from (
    select is(count(*), 70::bigint, 'it has 70 columns') as ok
    from information_schema.columns
    where table_schema = 'ledger'
        and table_name = 'universal_registry'
) as columns_are_70;
select ok(relrowsecurity and relforcerowsecurity, 'row security is forced')
from pg_class
where oid = 'ledger.universal_registry'::regclass;
select is(count(*), 0::bigint, 'every trigger fires always')
from pg_trigger
where tgrelid = 'ledger.universal_registry'::regclass
    and not tgisinternal
    and tgenabled <> 'A';

set local role authenticated;
select set_config(
    'request.jwt.claims', '{"sub": "alice", "app_metadata": {"tenant_id": "pgtap"}}', true
);

select lives_ok(
    $$ insert into ledger.universal_registry (entity_type, name) values ('note', 'hello') $$,
    'a client appends'
);
select is(owner_id || ' ' || tenant_id, 'alice pgtap', 'as itself')
from ledger.visible_timeline
where name = 'hello' and tenant_id = 'pgtap';
select throws_ok(
    $$ insert into ledger.universal_registry (entity_type, owner_id) values ('note', 'bob') $$,
    'LL006', null, 'not as another'
);
select throws_ok(
    $$ insert into ledger.universal_registry (entity_type) values ('execution') $$,
    'LL004', null, 'not what the engine writes'
);
select throws_ok(
    $$ update ledger.universal_registry set name = 'x' $$,
    '42501', null, 'a client has no right to change'
);

reset role;
select throws_ok(
    $$ update ledger.universal_registry set name = 'x' $$,
    'LL001', null, 'and the owner is refused'
);

select * from finish();

rollback;
