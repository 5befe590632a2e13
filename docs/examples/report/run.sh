#!/usr/bin/env bash
# The nightly report: run.sh [install | sell | now | reports | ticks]; all of it but ticks without an argument.
#
# DATABASE_URL is the login that owns the database (`. .logline/up.env`; on Supabase the direct connection of
# postgres). Nothing is written as that login: it takes the role and the claims of two users, as PostgREST does.
set -euo pipefail
cd "$(dirname "$0")"
: "${DATABASE_URL:?is not set: . .logline/up.env}"
tenant=${APP_TENANT_ID:-acme} # of both
user=${APP_USER_ID:-alice}    # who sells; on Supabase the id of a user
ops=${OPS_USER_ID:-ops}       # whose the report is; on Supabase the id of a user for that alone
cron=${REPORT_CRON:-5 0 * * *}
tz=${REPORT_TZ:-Europe/Lisbon}
grace=${REPORT_GRACE_S:-300}

database() { psql "$DATABASE_URL" -qX -v ON_ERROR_STOP=1 -v tenant="$tenant" -v user="$user" -v ops="$ops" "$@"; }

as() { # as USER, with more flags of psql: the statements of the standard input, in one transaction
  local who=$1
  shift
  {
    echo 'begin; set local role authenticated;'
    echo "select set_config('request.jwt.claims', json_build_object('sub', :'who', 'app_metadata',"
    echo "    json_build_object('tenant_id', :'tenant'))::text, true) \\g /dev/null"
    cat
    echo 'commit;'
  } | database -v who="$who" "$@"
}

install() { database -v cron="$cron" -v tz="$tz" -v grace="$grace" -f install.sql; }

sell() { # four sales; the one that is private nobody else can count
  as "$user" <<'SQL'
insert into ledger.universal_registry (entity_type, status, visibility, kind, value, unit)
values
    ('sale', 'paid', 'tenant', 'porto', 4900, 'cent'),
    ('sale', 'paid', 'tenant', 'porto', 1250, 'cent'),
    ('sale', 'refunded', 'tenant', 'lisboa', 9900, 'cent'),
    ('sale', 'paid', 'private', 'lisboa', 100, 'cent');
SQL
}

now() { # does not wait for the night: a call, which may state an input of its own
  local request answer='' deadline=$((SECONDS + 30))
  request=$(as "$ops" -At <<'SQL'
insert into ledger.universal_registry (entity_type, status, visibility, parent_id, input)
select 'request', 'scheduled', 'tenant', id, '{"grace_s": 0}' from ledger.visible_timeline
where entity_type = 'function' and name = 'report.sales' and owner_id = :'ops'
returning id;
SQL
  )
  while [ "$answer" != t ]; do
    ((SECONDS < deadline)) || { echo 'no report after 30 s. Does a sidecar run? logline doctor' >&2; exit 1; }
    answer=$(as "$ops" -At -v request="$request" <<<"select is_done from ledger.result(:'request');")
    [ "$answer" = t ] || sleep 0.2
  done
}

reports() {
  as "$user" <<'SQL'
select r.content ->> 'from' as "from", r.content ->> 'to' as "to", row ->> 'shop' as shop, row ->> 'status' as status,
    row ->> 'count' as count, row ->> 'cents' as cents
from ledger.visible_timeline as r
left join jsonb_array_elements(r.content -> 'rows') as row on true
where r.entity_type = 'report' and r.name = 'sales' and r.owner_id = :'ops'
order by r."when" desc, shop, status
limit 20;
SQL
}

ticks() { # the last ones, with what was missed before each
  as "$ops" <<'SQL'
select r.scheduled_at, r.status, r.metadata -> 'tick' -> 'missed' ->> 'count' as missed, r.reason
from ledger.visible_timeline as f
join ledger.visible_timeline as r on r.parent_id = f.id and r.entity_type = 'request'
where f.entity_type = 'function' and f.name = 'report.sales' and f.owner_id = :'ops' and r.metadata ? 'tick'
order by r.scheduled_at desc
limit 10;
SQL
}

case ${1:-all} in
  install | sell | now | reports | ticks) "$1" ;;
  all)
    install
    sell
    now
    reports
    ;;
  *) echo 'usage: run.sh [install | sell | now | reports | ticks]' >&2; exit 2 ;;
esac
