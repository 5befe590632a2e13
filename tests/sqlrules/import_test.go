package sqlrules

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/tests/pgtest"
)

const (
	importBegin = "select ledger.import_begin()"
	importEnd   = "select ledger.import_end()"
)

// lived is a ledger with a few chains, hashed ones and requests among them.
func lived(t *testing.T) *ledger {
	t.Helper()
	l := setup(t)
	l.populate()
	return l
}

func (l *ledger) populate() {
	l.t.Helper()
	function := []any{"id", id(1), "entity_type", "function", "status", "active", "visibility", "tenant",
		"code", "return 'é\t\n\\'", "tags", []string{"a", `b"c`, ""}, "metadata", `{"a": [1, 2.50, "x"]}`}
	l.given(alice, function...)
	l.given(alice, with(function, "seq", 1, "status", "archived", "value", "1.2300")...)
	l.given(alice, with(function, "seq", 2)...)
	l.given(ann, "id", id(2), "entity_type", "request", "status", "scheduled", "parent_id", id(1))
	l.given(ann, "id", id(2), "seq", 1, "entity_type", "request", "status", "cancel_requested")
	hashed := []any{"id", id(3), "entity_type", "note", "at", "2026-11-20 10:00:00.123456+00", "who", "user:bob",
		"owner_id", "bob", "tenant_id", "t2", "visibility", "private", "is_deleted", false}
	l.given(bob, with(hashed, "seq", 0, "curr_hash", hashOne)...)
	l.given(bob, with(hashed, "seq", 1, "curr_hash", hashTwo, "prev_hash", hashOne)...)
	l.given(engine, "id", derived(1), "entity_type", "execution", "owner_id", "ann", "tenant_id", "t1",
		"who", "kernel:x", "metadata", `{"engine": {"depth": 0}}`)
}

// copyRows carries every row from one ledger to another, in the worst order.
func copyRows(from, to *ledger) error {
	from.t.Helper()
	var rows bytes.Buffer
	_, err := from.conn.PgConn().CopyTo(from.t.Context(), &rows,
		"copy (select * from ledger.universal_registry order by id desc, seq desc) to stdout")
	if err != nil {
		from.t.Fatalf("copy out: %v", err)
	}
	_, err = to.conn.PgConn().CopyFrom(to.t.Context(), &rows, "copy ledger.universal_registry from stdin")
	return err
}

// notEpoch is every row but what an import adds.
const notEpoch = "select r::text from ledger.universal_registry r where entity_type <> 'epoch' order by id, seq"

func TestImportKeepsEveryRowAsItWas(t *testing.T) {
	t.Parallel()
	from, to := lived(t), setup(t)
	wantCode(t, copyRows(from, to), "LL002") // without the door, the ledger's rules hold
	run(t, to.conn, importBegin)
	wantCode(t, copyRows(from, to), "")
	run(t, to.conn, importEnd)
	rows := lines(from, allRows)
	if len(rows) != 8 {
		t.Fatalf("%d rows to import, want 8", len(rows))
	}
	wantLines(t, lines(to, notEpoch), rows...)
	wantSameCatalog(t, to)

	wantLines(t, lines(to, `select concat_ws(' ', who, did, this, owner_id, tenant_id, visibility, seq,
			metadata ->> 'rows', metadata ->> 'ids', metadata ->> 'max_xact' = (
				select max(xact::text::numeric)::text from ledger.universal_registry where entity_type <> 'epoch'),
			(metadata ->> 'accepted_until')::timestamptz = (
				select max(accepted_at) from ledger.universal_registry where entity_type <> 'epoch'),
			metadata ->> 'opened' like 'Import door, open since 2%',
			metadata ->> 'system_identifier' = (select system_identifier::text from pg_control_system()),
			accepted_at > now() - interval '1 minute', pg_visible_in_snapshot(xact, pg_current_snapshot()))
		from ledger.universal_registry where entity_type = 'epoch'`),
		"system:import imported ledger system system private 0 8 4 t t t t t t")

	// Behind the door everything is as ever.
	to.given(alice, "id", id(9), "entity_type", "note", "accepted_at", "2001-01-01")
	wantLines(t, lines(to, `select 'stamped' from ledger.history
		where id = '`+id(9)+`' and accepted_at > now() - interval '1 minute'`), "stamped")
	wantCode(t, to.append(ann, "id", id(2), "seq", 2, "entity_type", "request", "status", "scheduled"), "LL003")
	wantCode(t, to.append(owner, "entity_type", "epoch", "owner_id", "system", "tenant_id", "system"), "LL004")
}

func TestImportIsTheOwnersAlone(t *testing.T) {
	t.Parallel()
	l := lived(t)
	others := []actor{anon, alice, governor, service, engine, {role: "loglineos_kernel"}}
	for _, who := range others {
		wantCode(t, l.do(who, importBegin), "42501")
		wantCode(t, l.do(who, importEnd), "42501")
	}
	wantCode(t, l.do(owner, importEnd), "LL018")
	run(t, l.conn, importBegin)
	wantCode(t, l.do(owner, importBegin), "LL018")
	for _, who := range []actor{alice, governor, service, engine} {
		wantCode(t, l.append(who, "entity_type", "note", "owner_id", "alice", "tenant_id", "t1"), "LL018")
	}
	// Also where triggers that are not ALWAYS are off.
	wantCode(t, l.in(owner, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `set local session_replication_role = replica; set local role service_role;
			insert into ledger.universal_registry (entity_type, owner_id, tenant_id) values ('note', 'a', 't')`)
		return err
	}), "LL018")
	for _, change := range []string{"update ledger.universal_registry set name = 'x'",
		"delete from ledger.universal_registry", "truncate ledger.universal_registry"} {
		wantCode(t, l.do(owner, change), "LL001")
	}
	if found := guardCheck(t, l.conn); len(found) != 1 || found[0].Mend != importEnd {
		t.Errorf("while the door is open guard_check finds %q, want the door alone", found)
	}
	if n := ask[int](l, alice, "select count(*) from ledger.visible_timeline"); n != 1 {
		t.Errorf("alice reads %d spans while the door is open, want 1", n)
	}
	run(t, l.conn, importEnd)
	wantCode(t, l.do(owner, importEnd), "LL018")
	l.given(alice, "entity_type", "note")
}

func TestImportRefusesWhileASidecarIsAttached(t *testing.T) {
	t.Parallel()
	l := setup(t)
	refused := func(statement, who string) {
		t.Helper()
		err := l.do(owner, statement)
		wantCode(t, err, "LL018")
		if !strings.Contains(err.Error(), who) {
			t.Errorf("%s: got %v, want it to name %s", statement, err, who)
		}
	}
	url := l.db.URL + "&application_name=loglineos-tail"
	if !strings.Contains(l.db.URL, "?") {
		url = l.db.URL + "?application_name=loglineos-tail"
	}
	byName := connect(t, url)
	refused(importBegin, "loglineos-tail")
	closeNow(t, byName)
	awaitGone(t, l)
	byRole := connect(t, l.db.SidecarURL)
	refused(importBegin, "loglineos_sidecar")
	closeNow(t, byRole)
	awaitGone(t, l)
	run(t, l.conn, importBegin)
	byRole = connect(t, l.db.SidecarURL)
	refused(importEnd, "loglineos_sidecar")
	closeNow(t, byRole)
	awaitGone(t, l)
	run(t, l.conn, importEnd)
}

// A sidecar is told by what its login may be; what a stranger calls himself holds nothing up.
func TestImportTellsASidecarByItsLogin(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, nil).New(t)
	l := &ledger{t: t, db: db, conn: connect(t, db.URL)}
	run(t, l.conn, "create role stranger login password 'x'; create role app login password 'x'; grant loglineos_sidecar to app; "+
		"create role keeper login createrole password 'x'; grant loglineos_sidecar to keeper")
	as := func(login string) *pgx.Conn {
		t.Helper()
		config, err := pgx.ParseConfig(db.URL)
		if err != nil {
			t.Fatal(err)
		}
		config.User, config.Password, config.RuntimeParams["application_name"] = login, "x", "loglineos"
		if login == "app" {
			config.RuntimeParams["application_name"] = "reports"
		}
		session, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	run(t, l.conn, "alter table ledger.universal_registry owner to keeper")
	for login, code := range map[string]string{"stranger": "", "app": "LL018", "keeper": "LL018"} {
		session := as(login)
		wantCode(t, l.do(owner, importBegin), code)
		if code == "" {
			wantCode(t, l.do(owner, importEnd), "")
		}
		closeNow(t, session)
		awaitGone(t, l)
	}
}

func closeNow(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if err := conn.Close(t.Context()); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// awaitGone waits until this test's own session is the database's last: a backend ends after its client.
func awaitGone(t *testing.T, l *ledger) {
	t.Helper()
	for ask[int](l, owner, "select count(*) from pg_stat_activity where datname = current_database()") > 1 {
		if t.Context().Err() != nil {
			t.Fatal("the session does not end")
		}
	}
}

// Each fault is named, and the door stays open until the row that was missing is there.
func TestImportNamesTheFaults(t *testing.T) {
	t.Parallel()
	row := func(pairs ...any) []any {
		return with([]any{"id", id(7), "seq", 0, "entity_type", "note", "who", "user:a", "owner_id", "a",
			"tenant_id", "t", "visibility", "private", "is_deleted", false, "at", "2020-01-01",
			"accepted_at", "2020-01-01", "xact", "5"}, pairs...)
	}
	for name, test := range map[string]struct {
		rows [][]any
		want string
	}{
		"no beginning": {[][]any{row("seq", 1)}, "version 1: has no version 0 before it"},
		"gap":          {[][]any{row(), row("seq", 2)}, "version 2: follows version 0"},
		"owner":        {[][]any{row(), row("seq", 1, "owner_id", "b")}, "changes tenant_id, owner_id or"},
		"tenant":       {[][]any{row(), row("seq", 1, "tenant_id", "u")}, "changes tenant_id, owner_id or"},
		"type":         {[][]any{row(), row("seq", 1, "entity_type", "b")}, "changes tenant_id, owner_id or"},
		"parent": {[][]any{row("entity_type", "request", "parent_id", id(1)),
			row("entity_type", "request", "parent_id", id(2), "seq", 1)}, "changes parent_id of a request"},
		"hash":       {[][]any{row("curr_hash", hashOne), row("seq", 1, "prev_hash", hashTwo)}, "prev_hash is not"},
		"no hash":    {[][]any{row("curr_hash", hashOne), row("seq", 1)}, "prev_hash is not"},
		"first hash": {[][]any{row("prev_hash", hashTwo)}, "version 0: prev_hash is not"},
		"future":     {[][]any{row("accepted_at", "2999-01-01")}, "is still to come"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setup(t)
			err := pgx.BeginFunc(t.Context(), l.conn, func(tx pgx.Tx) error {
				run(t, l.conn, importBegin)
				for _, pairs := range test.rows {
					statement, values := insert(pairs)
					run(t, l.conn, statement, values...)
				}
				_, err := tx.Exec(t.Context(), importEnd)
				return err
			})
			wantCode(t, err, "LL018")
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			// In one transaction, nothing of it has happened.
			wantLines(t, lines(l, allRows))
			l.given(alice, "entity_type", "note")
		})
	}
}

// Older rules may have let in what those of today refuse. Its owner may keep it, and the epoch counts it.
func TestImportKeepsMalformedRowsIfToldTo(t *testing.T) {
	t.Parallel()
	l := setup(t)
	run(t, l.conn, importBegin)
	for n, odd := range []string{`{"n": 1e400}`, `{"n": 1}`} {
		run(t, l.conn, `insert into ledger.universal_registry (id, seq, entity_type, who, at, accepted_at, xact,
				owner_id, tenant_id, visibility, is_deleted, metadata)
			values ($1, 0, 'note', 'user:a', now(), now(), '5', 'a', 't', 'private', false, $2)`, id(n), odd)
	}
	err := l.do(owner, importEnd)
	wantCode(t, err, "LL018")
	if !strings.Contains(err.Error(), "span "+id(0)+", version 0: column metadata") {
		t.Errorf("got %v, want it to name the row and the column", err)
	}
	wantCode(t, l.append(alice, "entity_type", "note"), "LL018")
	run(t, l.conn, "select ledger.import_end(true)")
	wantLines(t, lines(l, `select concat_ws(' ', metadata ->> 'malformed', metadata ->> 'rows') from ledger.history
		where entity_type = 'epoch'`), "1 2")
}

func TestImportListsTwentyFaultsAndStaysOpen(t *testing.T) {
	t.Parallel()
	l := setup(t)
	run(t, l.conn, importBegin)
	const chain = `insert into ledger.universal_registry (id, seq, entity_type, who, at, accepted_at, xact, owner_id,
			tenant_id, visibility, is_deleted)
		select ('b0000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid, $1, 'note', 'user:a', now(), now(),
			'5', 'a', 't', 'private', false
		from generate_series(1, 30) n`
	run(t, l.conn, chain, 1)
	var refusal *pgconn.PgError
	if err := l.do(owner, importEnd); !errors.As(err, &refusal) || strings.Count(refusal.Detail, "\n") != 19 {
		t.Fatalf("got %v, want twenty lines of faults", err)
	}
	wantCode(t, l.append(alice, "entity_type", "note"), "LL018")
	run(t, l.conn, chain, 0)
	run(t, l.conn, importEnd)
	wantLines(t, lines(l, "select metadata ->> 'rows' from ledger.history where entity_type = 'epoch'"), "60")
}

// As on Supabase, and where even FORCE binds the owner: he may COPY while the door is open, and only then.
func TestImportByAnOwnerWithoutSuperuser(t *testing.T) {
	t.Parallel()
	from := lived(t)
	for name, attributes := range map[string]string{"bare": "", "like Supabase's": "bypassrls replication"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := owned(t, attributes)
			execute(t, l.conn, read(t, "../../sql/dist/loglineos.sql"))
			run(t, l.conn, importBegin)
			wantCode(t, copyRows(from, l), "")
			run(t, l.conn, importEnd)
			wantLines(t, lines(l, notEpoch), lines(from, allRows)...)
			wantSameCatalog(t, l)
		})
	}
}

// owned is an empty database of an owner without superuser, and a session as that owner.
func owned(t *testing.T, attributes string) *ledger {
	t.Helper()
	pgtest.New(t)
	db := pgtest.Empty(t)
	l := &ledger{t: t, db: db, conn: connect(t, db.URL)}
	role := "owner_" + strings.TrimPrefix(db.Name, "logline_test_")
	t.Cleanup(func() {
		conn := connectForever(t, db.URL)
		run(t, conn, "drop owned by "+role+" cascade")
		// At once: guard_check in another database names a member of the sidecar's role that owns none.
		run(t, conn, "alter database "+db.Name+" owner to session_user; drop role "+role)
	})
	ownedBy(l, role, attributes, "loglineos_sidecar, loglineos_kernel, authenticated")
	run(t, l.conn, "set role "+role)
	return l
}

// ownedBy makes the role, and the ledger's database its own, at once: guard_check in another database names
// a role past row level security that owns none. It reads memberships as they are now and all else as of its
// snapshot, so that a snapshot between two of these statements would show such a role.
func ownedBy(l *ledger, role, attributes, memberships string) {
	l.t.Helper()
	run(l.t, l.conn, fmt.Sprintf("create role %s createrole createdb %s; alter database %s owner to %s; grant %s to %s",
		role, attributes, l.db.Name, role, memberships, role))
}
