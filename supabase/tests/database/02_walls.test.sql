-- The walls of append-only and of tenants, as they stand after `supabase db push`.

begin;

create extension if not exists pgtap;

select plan(9);

-- As the owner, also where a superuser runs this.
select set_config('role', pg_get_userbyid(relowner), true)
from pg_class
where oid = 'ledger.universal_registry'::regclass;

select is_empty(
    $$ select wall, problem from ledger.guard_check() $$,
    'every wall stands'
);
select throws_ok(
    $$ truncate ledger.universal_registry $$,
    'LL001', null, 'the owner may not truncate'
);
select throws_ok(
    $$ delete from ledger.universal_registry $$,
    'LL001', null, 'nor delete'
);

insert into ledger.universal_registry (entity_type, owner_id, tenant_id, visibility, trace_id)
values ('note', 'alice', 'pgtap', 'private', 'pgtap walls'), ('note', 'alice', 'pgtap', 'tenant', 'pgtap walls');

set local role authenticated;
select set_config('request.jwt.claims', '{"sub": "ann", "app_metadata": {"tenant_id": "pgtap"}}', true);
select is(count(*), 1::bigint, 'a colleague sees what is for the tenant')
from ledger.visible_timeline
where trace_id = 'pgtap walls';

select set_config('request.jwt.claims', '{"sub": "alice", "app_metadata": {"tenant_id": "other"}}', true);
select is(count(*), 0::bigint, 'another tenant sees nothing, whatever its user is called')
from ledger.history
where trace_id = 'pgtap walls';

select set_config(
    'request.jwt.claims', '{"sub": "alice", "user_metadata": {"tenant_id": "pgtap"}}', true
);
select is(count(*), 0::bigint, 'user_metadata is not believed')
from ledger.history
where trace_id = 'pgtap walls';
select throws_ok(
    $$ truncate ledger.universal_registry $$,
    '42501', null, 'a client has no right to truncate'
);

set local role anon;
select is(count(*), 0::bigint, 'anon sees nothing')
from ledger.visible_timeline;

reset role;
select set_config('role', pg_get_userbyid(relowner), true)
from pg_class
where oid = 'ledger.universal_registry'::regclass;
alter table ledger.universal_registry disable row level security;
select isnt_empty(
    $$ select wall from ledger.guard_check() $$,
    'a wall that is taken down is found'
);

select * from finish();

rollback;
