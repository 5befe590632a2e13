-- 15 uuid7: ids that sort by time (RFC 9562 §5.7). Postgres 18 has one built in; 15 to 17 have not.

create or replace function ledger.uuid7()
returns uuid
language plpgsql
volatile
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    -- 48 bits of Unix milliseconds take the place of the first 48 bits of a version 4 UUID, and a 7 that of
    -- its 4. admit_span (30_guards) has the same expression: a call costs more than it does.
    return concat(
        '0', to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint),
        '7', right(gen_random_uuid()::text, 21)
    )::uuid;
end
$$;

comment on function ledger.uuid7() is
    'A new version 7 UUID: 48 bits of Unix milliseconds, then 74 random bits. The id of a span that '
    'states none.';
