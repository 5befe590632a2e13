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
    -- 48 bits of Unix milliseconds over a version 4 UUID; then its version nibble 0100 becomes 0111.
    return encode(
        set_bit(
            set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    placing substring(
                        int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
                        from 3
                    )
                    from 1 for 6
                ),
                52, 1
            ),
            53, 1
        ),
        'hex'
    )::uuid;
end
$$;

comment on function ledger.uuid7() is
    'A new version 7 UUID: 48 bits of Unix milliseconds, then 74 random bits. The id of a span that '
    'states none.';
