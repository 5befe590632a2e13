-- Publishes the order pipeline as the user :ops of the tenant :tenant. Run again, it publishes what has changed, as
-- the next version. Run by run.sh, in this folder.
\set ON_ERROR_STOP on
\set charge `cat charge.ts`
\set ship `cat ship.ts`
\set pipeline `cat pipeline.ts`
\set failed `cat failed.ts`
\set overdue `cat overdue.ts`

begin;
set local role authenticated;
select set_config('request.jwt.claims', json_build_object(
    'sub', :'ops', 'app_metadata', json_build_object('tenant_id', :'tenant'))::text, true) \g /dev/null

with wanted (name, code) as (
    values ('orders.charge', :'charge'), ('orders.ship', :'ship')
), settings as (
    select '{"retry": {"max_attempts": 3, "base_ms": 200}}'::jsonb as metadata
)
insert into ledger.universal_registry (id, seq, entity_type, name, status, language, code, metadata)
select coalesce(f.id, ledger.uuid7()), coalesce(f.seq + 1, 0), 'function', w.name, 'active', 'typescript', w.code, s.metadata
from wanted as w
cross join settings as s
left join ledger.visible_timeline as f
    on f.entity_type = 'function' and f.name = w.name and f.owner_id = :'ops'
where (f.code, f.metadata, f.status) is distinct from (w.code, s.metadata, 'active');

select id as charge_id from ledger.visible_timeline
where entity_type = 'function' and name = 'orders.charge' and owner_id = :'ops' \gset
select id as ship_id from ledger.visible_timeline
where entity_type = 'function' and name = 'orders.ship' and owner_id = :'ops' \gset

with wanted (name, code, metadata) as (
    values
        ('orders.pipeline', :'pipeline', jsonb_build_object('when', jsonb_build_object(
            'entity_type', array['order', 'execution'], 'status', array['placed', 'complete']))),
        ('orders.failed', :'failed', jsonb_build_object('when', jsonb_build_object(
            'entity_type', array['fulfilment', 'request'], 'status', array['failed', 'dead', 'error'], 'owner_id', :'ops'))),
        ('orders.overdue', :'overdue', '{"every": "minute"}')
), filled as (
    select w.name, replace(replace(w.code, '__CHARGE__', :'charge_id'), '__SHIP__', :'ship_id') as code, w.metadata
    from wanted as w
)
insert into ledger.universal_registry (id, seq, entity_type, name, status, language, code, metadata)
select coalesce(p.id, ledger.uuid7()), coalesce(p.seq + 1, 0), 'policy', w.name, 'active', 'typescript', w.code, w.metadata
from filled as w
left join ledger.visible_timeline as p
    on p.entity_type = 'policy' and p.name = w.name and p.owner_id = :'ops'
where (p.code, p.metadata, p.status) is distinct from (w.code, w.metadata, 'active');

-- What is sold: prices and stock are spans of ours, too. The tenant may read them.
insert into ledger.universal_registry (entity_type, name, status, visibility, content)
select 'product', w.name, 'active', 'tenant', w.content
from (values
    ('lamp', '{"cents": 4900, "stock": 12}'::jsonb),
    ('sofa', '{"cents": 89900, "stock": 0}'::jsonb)
) as w (name, content)
where not exists (
    select from ledger.visible_timeline as p
    where p.entity_type = 'product' and p.name = w.name and p.owner_id = :'ops'
);

select entity_type, name, seq, status from ledger.visible_timeline
where owner_id = :'ops' and (name like 'orders.%' or entity_type = 'product')
order by 1, 2;
commit;
