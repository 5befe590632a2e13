#!/usr/bin/env bash
# move.sh takes a ledger from one Postgres to another: Supabase, RDS, Fly.io, one of your own, in any direction
# and between versions of Postgres. It needs bash and psql, and no superuser on either side.
#
#     export FROM_URL=postgres://…   # who owns the ledger there; it is only read
#     export TO_URL=postgres://…     # who owns the new one: empty, but for `logline migrate`
#     scripts/deploy/move.sh copy      # while everything runs; again and again, each time what is new
#     scripts/deploy/move.sh finish    # the sidecar and the writers have stopped: the rest, proof, comparison
#
# MOVE_DIR (default: this folder) keeps move.snapshot between the calls. LEAVE_OPEN=1 finishes though requests
# are open: they stay as they are, and never run on the new side. What is moved is the ledger's rows; logins,
# users of Supabase Auth and your own tables are not (docs/migration.md).
set -euo pipefail

usage() { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit "$1"; }
fail() { echo "move.sh: $*" >&2; exit 1; }
# Milliseconds since the script began.
now() { local t=${EPOCHREALTIME//[!0-9]/}; echo $(((t - began) / 1000)); }
say() { printf '%8d ms  %-10s %s\n' "$(now)" "$1" "$2"; }

began=${EPOCHREALTIME//[!0-9]/}
[ $# = 1 ] || usage 2
case "$1" in copy | finish) command=$1 ;; -h | --help) usage 0 ;; *) usage 2 ;; esac
[ -n "${FROM_URL:-}" ] && [ -n "${TO_URL:-}" ] || { echo 'move.sh: set FROM_URL and TO_URL' >&2; exit 2; }
snapshot=${MOVE_DIR:-.}/move.snapshot

# What a row says must not depend on where it is read.
PGOPTIONS='-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1'
export PGOPTIONS="$PGOPTIONS -c statement_timeout=0"
from() { psql -XqAt -v ON_ERROR_STOP=1 "$FROM_URL" "$@"; }
to() { psql -XqAt -v ON_ERROR_STOP=1 "$TO_URL" "$@"; }

columns_of="select string_agg(quote_ident(attname), ', ' order by attname) from pg_attribute
    where attrelid = 'ledger.universal_registry'::regclass and attnum > 0 and not attisdropped
        and attgenerated = ''"
columns=$(from -c "$columns_of") || fail 'FROM_URL can not be read, or has no ledger'
theirs=$(to -c "$columns_of") || fail 'TO_URL can not be read, or has no ledger: run logline migrate there'
[ "$columns" = "$theirs" ] || fail 'the ledgers are of different versions: run logline migrate on both'
if [ ! -e "$snapshot" ] && [ "$(to -c 'select count(*) from ledger.universal_registry')" != 0 ]; then
    fail "the ledger of TO_URL is not empty and $snapshot is not there: take a fresh database (no bootstrap)"
fi

# A snapshot, and what the last one had not seen. What both have already is passed over, so that a copy that was
# cut off is made again.
copy() {
    local before seen=''
    before=$(cat "$snapshot" 2>/dev/null || true)
    [ -z "$before" ] || seen="where not pg_visible_in_snapshot(xact, '$before')"
    to -c 'select ledger.import_begin() where not ledger_private.is_importing()' >/dev/null
    local file=$snapshot.new
    file=${file//\\/\\\\} file=${file//\'/\'\'}
    from <<SQL |
begin isolation level repeatable read read only;
\\o '$file'
select pg_current_snapshot();
\\o
copy (select $columns from ledger.universal_registry $seen order by accepted_at, id, seq) to stdout;
SQL
        psql -XqAt -v ON_ERROR_STOP=1 "$TO_URL" \
            -c 'begin' \
            -c 'create temporary table arrived (like ledger.universal_registry) on commit drop' \
            -c "copy arrived ($columns) from stdin" \
            -c "insert into ledger.universal_registry ($columns) select $columns from arrived
                on conflict (id, seq) do nothing" \
            -c 'commit' ||
        fail 'the copy is not whole: mend what is said above, and copy again; what has come is passed over then'
    [ -s "$snapshot.new" ] || fail "$snapshot.new is not written: look at MOVE_DIR, and copy again"
    mv "$snapshot.new" "$snapshot"
    say copied "$(to -c 'select count(*) from ledger.universal_registry') rows are there"
}

# How many rows, and a sum over every byte of them, in any order.
print_of="select count(*) || ' rows, sum ' ||
    coalesce(sum(('x' || substr(md5(row($columns)::text), 1, 15))::bit(60)::bigint), 0)
    from ledger.universal_registry"

if [ "$command" = copy ]; then
    copy
    exit
fi
attached=$(from -c "select string_agg(distinct application_name, ', ') from pg_stat_activity
    where application_name like 'loglineos%' and datname = current_database()")
[ -z "$attached" ] || fail "a sidecar still works on FROM_URL ($attached): stop it"
open=$(from -c "select count(*) from ledger.visible_timeline where entity_type = 'request'
    and status in ('scheduled', 'retry', 'running', 'blocked', 'cancel_requested')")
[ "$open" = 0 ] || [ -n "${LEAVE_OPEN:-}" ] ||
    fail "$open requests are open and would never run there: let the sidecar finish, or set LEAVE_OPEN=1"
copy
here=$(from -c "$print_of")
there=$(to -c "$print_of")
[ "$here" = "$there" ] || fail "the ledgers differ: FROM_URL has $here; TO_URL has $there. The door stays open"
say compared "$here on both sides"
to -c 'select ledger.import_end()' >/dev/null || fail 'the chains do not hold, the door stays open'
say proved 'every chain of versions holds, and the door is closed: start the sidecar on TO_URL'
mv "$snapshot" "$snapshot.done"
[ "$open" = 0 ] || say open "$open requests stay open (docs/operations.md, Import)"
