-- Publishes the moderation of comments as the user :ops of the tenant :tenant; :provider is where the provider is. Run
-- again, it publishes what has changed. Run by run.sh, in this folder.
\set ON_ERROR_STOP on
\set moderate `cat moderate.ts`
\set moderation `cat moderation.ts`
\set down `cat down.ts`

-- What the app shows: a comment whose newest text is approved. It obeys the rights of whoever reads it. It is all
-- that is made as the owner of the database.
create or replace view public.comment_feed
with (security_invoker = true)
as
select c.id, c.tenant_id, c.owner_id as author, c.content ->> 'text' as text, c."when"
from ledger.visible_timeline as c
join ledger.visible_timeline as m
    on m.entity_type = 'moderation' and m.parent_id = c.id and m.status = 'approved'
    and m.owner_id = :'ops' and (m.content ->> 'seq')::int = c.seq
where c.entity_type = 'comment';

grant select on public.comment_feed to authenticated;

begin;
set local role authenticated;
select set_config('request.jwt.claims', json_build_object(
    'sub', :'ops', 'app_metadata', json_build_object('tenant_id', :'tenant'))::text, true) \g /dev/null

with wanted as (
    select replace(:'moderate', '__PROVIDER__', :'provider') as code,
        '{"retry": {"max_attempts": 3, "base_ms": 500}}'::jsonb as metadata
)
insert into ledger.universal_registry (id, seq, entity_type, name, status, language, code, metadata)
select coalesce(f.id, ledger.uuid7()), coalesce(f.seq + 1, 0), 'function', 'comments.moderate', 'active', 'typescript',
    w.code, w.metadata
from wanted as w
left join ledger.visible_timeline as f
    on f.entity_type = 'function' and f.name = 'comments.moderate' and f.owner_id = :'ops'
where (f.code, f.metadata, f.status) is distinct from (w.code, w.metadata, 'active');

select id as moderate_id from ledger.visible_timeline
where entity_type = 'function' and name = 'comments.moderate' and owner_id = :'ops' \gset

with wanted (name, code, metadata) as (
    values
        ('comments.moderation', replace(:'moderation', '__MODERATE__', :'moderate_id'),
            jsonb_build_object('when', jsonb_build_object(
                'entity_type', array['comment', 'execution'], 'status', array['pending', 'complete']))),
        ('comments.down', replace(:'down', '__MODERATE__', :'moderate_id'),
            jsonb_build_object('when', jsonb_build_object(
                'entity_type', 'request', 'status', array['dead', 'error'], 'owner_id', :'ops')))
)
insert into ledger.universal_registry (id, seq, entity_type, name, status, language, code, metadata)
select coalesce(p.id, ledger.uuid7()), coalesce(p.seq + 1, 0), 'policy', w.name, 'active', 'typescript', w.code, w.metadata
from wanted as w
left join ledger.visible_timeline as p
    on p.entity_type = 'policy' and p.name = w.name and p.owner_id = :'ops'
where (p.code, p.metadata, p.status) is distinct from (w.code, w.metadata, 'active');

select entity_type, name, seq, status from ledger.visible_timeline
where owner_id = :'ops' and name like 'comments.%'
order by 1, 2;
commit;
