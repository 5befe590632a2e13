#!/usr/bin/env bash
# Moderated comments. Without an argument: installs, writes three comments and shows the feed; or one of the commands at
# the end.
#
# DATABASE_URL is the login that owns the database (`. .logline/up.env`; on Supabase the direct connection of
# postgres). Spans are not written as that login: it takes the role and the claims of two users, as PostgREST does.
set -euo pipefail
cd "$(dirname "$0")"
: "${DATABASE_URL:?is not set: . .logline/up.env}"
tenant=${APP_TENANT_ID:-acme} # of all
user=${APP_USER_ID:-alice}    # who writes comments; on Supabase the id of a user
ops=${OPS_USER_ID:-ops}       # who moderates; on Supabase the id of a user for that alone
provider=${PROVIDER_URL:-https://api.openai.com}

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

function_id() {
  as "$ops" -At <<'SQL'
select id from ledger.visible_timeline
where entity_type = 'function' and name = 'comments.moderate' and owner_id = :'ops';
SQL
}

# The governor lets this one function reach this one host, with this one secret. ROOT_KEY signs it, where manifests
# must be signed.
grant() {
  local id host
  id=$(function_id)
  host=${provider#*://}
  [[ $host == *:* ]] || { [[ $provider == https:* ]] && host+=:443 || host+=:80; }
  logline manifest ${ROOT_KEY:+--key "$ROOT_KEY"} --give "$id=fetch:$host" --give "$id=secret:OPENAI_API_KEY" >/dev/null
  echo "granted: $host and OPENAI_API_KEY to comments.moderate"
}

install() {
  command -v logline >/dev/null || { echo 'logline is not in PATH: export PATH=$PWD/bin:$PATH' >&2; exit 1; }
  database -v provider="$provider" -f install.sql
  grant
}

write() {
  as "$user" -v text="$1" <<'SQL'
insert into ledger.universal_registry (entity_type, status, visibility, content)
values ('comment', 'pending', 'tenant', jsonb_build_object('text', :'text'));
SQL
}

settled() { # until no comment waits for its verdict, and no redrive for its end
  local answer='' deadline=$((SECONDS + 60))
  while [ "$answer" != t ]; do
    ((SECONDS < deadline)) || { echo 'a comment waits for over 60 s. Does a sidecar run? logline doctor' >&2; exit 1; }
    answer=$(as "$ops" -At <<'SQL'
select not exists (
    select from ledger.visible_timeline as c
    left join ledger.visible_timeline as m
        on m.entity_type = 'moderation' and m.parent_id = c.id and m.owner_id = :'ops'
    where c.entity_type = 'comment' and c.status = 'pending'
        and (m.status is null or m.status = 'waiting' or (m.content ->> 'seq')::int <> c.seq)
) and (
    select count(*) filter (where entity_type = 'moderation' and did = 'gave up')
        <= count(*) filter (where entity_type = 'request' and status = 'dead')
    from ledger.visible_timeline
    where owner_id = :'ops'
);
SQL
    )
    [ "$answer" = t ] || sleep 0.2
  done
}

feed() {
  as "$user" <<'SQL'
select author, text from public.comment_feed order by "when";
SQL
}

review() {
  as "$ops" <<'SQL'
select m.id, c.content ->> 'text' as text, left(m.reason, 60) as reason
from ledger.visible_timeline as m
join ledger.visible_timeline as c on c.id = m.parent_id
where m.entity_type = 'moderation' and m.status = 'needs_review' and m.owner_id = :'ops'
order by c."when";
SQL
}

decide() { # a person's verdict is the next version of the moderation
  local decided=''
  [[ ! $1 =~ ^[0-9a-f-]{36}$ ]] || decided=$(as "$ops" -At -v id="$1" -v status="$2" -v reason="$3" <<'SQL'
insert into ledger.universal_registry (id, seq, entity_type, did, status, visibility, parent_id, reason, content)
select id, seq + 1, entity_type, 'decided', :'status', visibility, parent_id, :'reason', content
from ledger.visible_timeline
where id = :'id' and entity_type = 'moderation' and status = 'needs_review' and owner_id = :'ops'
returning status;
SQL
  )
  [ -n "$decided" ] || { echo "$1 is no moderation that needs a review: run.sh review" >&2; exit 1; }
  echo "$decided"
}

show() {
  write 'What a lovely lamp.'
  write 'I shall hurt you.'
  write 'This lamp is a crime.'
  settled
  echo 'The feed, as everybody of the tenant sees it:'
  feed
  echo 'For a person to decide:'
  review
}

case ${1:-both}.$# in
  install.1) install ;;
  write.2) write "$2" ;;
  wait.1) settled ;;
  feed.1) feed ;;
  review.1) review ;;
  decide.4)
    [[ $3 == approved || $3 == rejected ]] || { echo "$3 is no verdict: approved or rejected" >&2; exit 2; }
    decide "$2" "$3" "$4"
    ;;
  function.1) function_id ;;
  both.0)
    install
    show
    ;;
  *)
    echo 'usage: run.sh [install | write TEXT | wait | feed | review | decide ID approved|rejected REASON | function]' >&2
    exit 2
    ;;
esac
