-- The write doors and what is read, as an API client meets them.

begin;

create extension if not exists pgtap;

select plan(9);

set local role authenticated;
select set_config(
    'request.jwt.claims', '{"sub": "alice", "app_metadata": {"tenant_id": "pgtap"}}', true
);

select ok(is_new, 'append writes')
from ledger.append('{"entity_type": "note", "name": "door", "idempotency_key": "pgtap-1"}');
select ok(not is_new, 'the same again is done already')
from ledger.append('{"entity_type": "note", "name": "door", "idempotency_key": "pgtap-1"}');
select throws_ok(
    $$ select * from ledger.append('{"entity_type": "note", "name": "other", "idempotency_key": "pgtap-1"}') $$,
    '23505', null, 'the same key with other content is a conflict'
);
select results_eq(
    $$ select place, error ->> 'code' from ledger.append_batch('[{"entity_type": "note"}, {"entity_type": "metric"}]') $$,
    $$ values (1, null), (2, 'LL004') $$,
    'append_batch answers for each span'
);

insert into ledger.universal_registry (id, entity_type, name, status, code)
values ('0198f000-0000-7000-8000-000000000001', 'function', 'pgtap', 'active', 'return 1');
insert into ledger.universal_registry (id, entity_type, status, parent_id)
values (
    '0198f000-0000-7000-8000-000000000002', 'request', 'scheduled', '0198f000-0000-7000-8000-000000000001'
);

select results_eq(
    $$ select status, is_done from ledger.result('0198f000-0000-7000-8000-000000000002') $$,
    $$ values ('scheduled', false) $$,
    'result tells where a call stands'
);
select results_eq(
    $$ select last_request_status, open_requests from ledger.function_state
        where id = '0198f000-0000-7000-8000-000000000001' $$,
    $$ values ('scheduled', 1) $$,
    'function_state shows it'
);
select is(count(*), 1::bigint, 'as_of shows the function now')
from ledger.as_of(clock_timestamp(), '0198f000-0000-7000-8000-000000000001');

select set_config('request.jwt.claims', '{"sub": "bob", "app_metadata": {"tenant_id": "other"}}', true);
select is_empty(
    $$ select status from ledger.result('0198f000-0000-7000-8000-000000000002') $$,
    'a stranger gets no result'
);
select throws_ok(
    $$ insert into ledger.universal_registry (entity_type, status, parent_id)
        values ('request', 'scheduled', '0198f000-0000-7000-8000-000000000001') $$,
    'LL015', null, 'and can not call'
);

select * from finish();

rollback;
