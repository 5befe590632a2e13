-- Publishes the report as the user :ops of the tenant :tenant, to run at :cron in the zone :tz and to count up to :grace
-- seconds before. Run again, it publishes what has changed. Run by run.sh, in this folder.
\set ON_ERROR_STOP on
\set report `cat report.ts`

begin;
set local role authenticated;
select set_config('request.jwt.claims', json_build_object(
    'sub', :'ops', 'app_metadata', json_build_object('tenant_id', :'tenant'))::text, true) \g /dev/null

with wanted as (
    select :'report' as code, jsonb_build_object(
        'schedule', jsonb_build_object(
            'cron', :'cron', 'tz', :'tz', 'fill', 'last', 'input', jsonb_build_object('grace_s', :grace)),
        'retry', jsonb_build_object('max_attempts', 5, 'base_ms', 1000)) as metadata
)
insert into ledger.universal_registry
    (id, seq, entity_type, name, status, visibility, language, code, metadata)
select coalesce(f.id, ledger.uuid7()), coalesce(f.seq + 1, 0), 'function', 'report.sales', 'active', 'tenant', 'typescript',
    w.code, w.metadata
from wanted as w
left join ledger.visible_timeline as f
    on f.entity_type = 'function' and f.name = 'report.sales' and f.owner_id = :'ops'
where (f.code, f.metadata, f.status) is distinct from (w.code, w.metadata, 'active');

select name, seq, status, metadata -> 'schedule' ->> 'cron' as cron, metadata -> 'schedule' ->> 'tz' as tz
from ledger.visible_timeline
where entity_type = 'function' and name = 'report.sales' and owner_id = :'ops';
commit;
