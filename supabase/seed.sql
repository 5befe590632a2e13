-- Two tenants to look at, for `supabase db reset`. Runs as the owner, who states whom it acts for.
-- Safe to run again: what is there stays.

insert into ledger.universal_registry (
    id, seq, entity_type, who, did, this, owner_id, tenant_id, visibility, status, name,
    description, language, code, input, content, tags
)
values
    (
        'd0000000-0000-4000-9000-000000000001', 0, 'function', 'user:alice', 'defined', 'greet',
        'alice', 'demo-one', 'tenant', 'draft', 'greet', 'Greets whoever is named in the input.',
        'javascript', 'return `Hello, ${input.name}`', '{"name": "Ada"}', null, null
    ),
    (
        'd0000000-0000-4000-9000-000000000001', 1, 'function', 'user:alice', 'scheduled', 'greet',
        'alice', 'demo-one', 'tenant', 'scheduled', 'greet', 'Greets whoever is named in the input.',
        'javascript', 'return `Hello, ${input.name}`', '{"name": "Ada"}', null, null
    ),
    (
        'd0000000-0000-4000-9000-000000000002', 0, 'note', 'user:alice', 'wrote', 'note',
        'alice', 'demo-one', 'private', null, 'first note', null,
        null, null, null, '"Only alice reads this."', '{demo}'
    ),
    (
        'd0000000-0000-4000-9000-000000000003', 0, 'function', 'user:bob', 'defined', 'sum',
        'bob', 'demo-two', 'private', 'scheduled', 'sum', 'Adds two numbers.',
        'javascript', 'return input.a + input.b', '{"a": 2, "b": 40}', null, null
    ),
    (
        'd0000000-0000-4000-9000-000000000004', 0, 'note', 'user:bob', 'wrote', 'note',
        'bob', 'demo-two', 'tenant', null, 'team note', null,
        null, null, null, '"All of demo-two read this."', '{demo}'
    )
on conflict (id, seq) do nothing;
