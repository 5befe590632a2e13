#!/usr/bin/env bash
# Installs the order pipeline and shows it; run.sh install and run.sh show do one of the two. run.sh restock fills
# the store and has shipped what waited for it.
#
# DATABASE_URL is the login that owns the database (`. .logline/up.env`; on Supabase the direct connection of
# postgres). Nothing is written as that login: it takes the role and the claims of two users, as PostgREST does.
set -euo pipefail
cd "$(dirname "$0")"
: "${DATABASE_URL:?is not set: . .logline/up.env}"
tenant=${APP_TENANT_ID:-acme} # of both
user=${APP_USER_ID:-alice}    # who orders; on Supabase the id of a user
ops=${OPS_USER_ID:-ops}       # whose the pipeline is; on Supabase the id of a user for that alone

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

await() { # await SECONDS WHAT: until the query of the standard input answers t
  local query answer='' deadline=$((SECONDS + $1))
  query=$(cat)
  echo "waiting for $2" >&2
  while [ "$answer" != t ]; do
    ((SECONDS < deadline)) || { echo "not there after $1 s: $2. Does a sidecar run? logline doctor" >&2; exit 1; }
    answer=$(as "$ops" -At -v shown="$shown" <<<"$query")
    [ "$answer" = t ] || sleep 0.2
  done
}

shown=
install() { database -f install.sql; }

show() {
  shown=$(date +%s) # names the orders of this run
  as "$user" -v shown="$shown" <<'SQL'
insert into ledger.universal_registry (entity_type, status, visibility, name, at, content)
values
    ('order', 'placed', 'tenant', :'shown' || ' good', now(), '{"item": "lamp", "quantity": 2, "card": "tok_ok"}'),
    ('order', 'placed', 'tenant', :'shown' || ' declined', now(), '{"item": "lamp", "quantity": 1, "card": "tok_empty"}'),
    ('order', 'placed', 'tenant', :'shown' || ' silent', now(), '{"item": "lamp", "quantity": 1, "card": "tok_silent"}'),
    ('order', 'placed', 'tenant', :'shown' || ' late', now() - interval '10 minutes',
        '{"item": "sofa", "quantity": 1, "card": "tok_ok"}');
SQL
  await 30 'each order to be shipped, to fail, or to wait' <<'SQL'
select count(*) = 4 from ledger.visible_timeline
where entity_type = 'fulfilment' and owner_id = :'ops' and name like :'shown' || ' %'
    and status in ('shipped', 'failed', 'waiting');
SQL
  echo 'What the customer sees:'
  as "$user" -v shown="$shown" <<'SQL'
select split_part(o.name, ' ', 2) as "order", f.seq, f.status, f.content ->> 'cents' as cents, left(f.reason, 60) as reason
from ledger.visible_timeline as o
join ledger.visible_timeline as f
    on f.parent_id = o.id and f.entity_type = 'fulfilment' and f.owner_id = :'ops' -- not what somebody else says
where o.entity_type = 'order' and o.owner_id = :'user' and o.name like :'shown' || ' %'
order by o.id;
SQL
  await 90 'the next minute, in which the late order is escalated' <<'SQL'
select count(*) = 3 from ledger.visible_timeline
where entity_type = 'escalation' and name like :'shown' || ' %';
SQL
  echo 'What is escalated, to ops alone:'
  as "$ops" -v shown="$shown" <<'SQL'
select split_part(name, ' ', 2) as "order", severity, status, left(reason, 70) as reason
from ledger.visible_timeline
where entity_type = 'escalation' and name like :'shown' || ' %'
order by name;
SQL
}

restock() {
  as "$ops" <<'SQL'
insert into ledger.universal_registry (id, seq, entity_type, name, status, visibility, content)
select id, seq + 1, entity_type, name, status, visibility, content || '{"stock": 5}'
from ledger.visible_timeline
where entity_type = 'product' and owner_id = :'ops' and content ->> 'stock' = '0';

insert into ledger.universal_registry (entity_type, status, parent_id, trace_id, input)
select 'request', 'scheduled', f.id, w.trace_id, jsonb_build_object('fulfilment', w.id, 'item', w.content ->> 'item')
from ledger.visible_timeline as w
join ledger.visible_timeline as f on f.entity_type = 'function' and f.name = 'orders.ship' and f.owner_id = :'ops'
where w.entity_type = 'fulfilment' and w.status = 'waiting' and w.owner_id = :'ops';
SQL
  await 30 'what waited to be shipped' <<'SQL'
select not exists (
    select from ledger.visible_timeline
    where entity_type = 'fulfilment' and status = 'waiting' and owner_id = :'ops');
SQL
  as "$ops" <<'SQL'
select seq, status, reason from ledger.visible_timeline
where entity_type = 'fulfilment' and owner_id = :'ops' and name like '% late'
order by accepted_at desc limit 1;
SQL
}

case ${1:-both} in
  install) install ;;
  show) show ;;
  restock) restock ;;
  both)
    install
    show
    ;;
  *) echo 'usage: run.sh [install | show | restock]' >&2; exit 2 ;;
esac
