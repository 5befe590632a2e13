package ledger

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// cursorTable is the tail's (sidecar/tail/cursor.go).
const cursorTable = `create table engine.cursor (slot text primary key, system_id text not null, timeline int not null,
	lsn pg_lsn not null, snapshot pg_snapshot not null, stored_at timestamptz not null default now());
	alter table engine.cursor owner to loglineos_sidecar`

const aCursor = `insert into engine.cursor select 'loglineos', system_identifier::text, 1, pg_current_wal_lsn(),
	pg_current_snapshot() from pg_control_system()`

// lived has rows of three transactions; the last one is an open request.
func lived(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for range 2 {
		exec(t, conn, `insert into ledger.universal_registry (entity_type, owner_id, tenant_id, who)
			values ('note', 'alice', 't1', 'user:alice')`)
	}
	exec(t, conn, `insert into ledger.universal_registry (id, entity_type, status, owner_id, tenant_id, who)
		values ($1, 'function', 'active', 'alice', 't1', 'user:alice')`, idOf(1).String())
	exec(t, conn, `insert into ledger.universal_registry (entity_type, status, parent_id, owner_id, tenant_id, who)
		values ('request', 'scheduled', $1, 'alice', 't1', 'user:alice')`, idOf(1).String())
}

// restore copies a table as a dump does: past every trigger.
func restore(t *testing.T, from, to *pgx.Conn, table string) {
	t.Helper()
	var rows bytes.Buffer
	if _, err := from.PgConn().CopyTo(t.Context(), &rows, "copy "+table+" to stdout"); err != nil {
		t.Fatal(err)
	}
	exec(t, to, "alter table "+table+" disable trigger all")
	if _, err := to.PgConn().CopyFrom(t.Context(), &rows, "copy "+table+" from stdin"); err != nil {
		t.Fatal(err)
	}
	exec(t, to, "alter table "+table+" enable trigger all")
}

// wantRestored fails unless a sidecar is refused until the import door was opened and closed.
func wantRestored(t *testing.T, url string, conn *pgx.Conn) {
	t.Helper()
	l, err := Open(t.Context(), url, 2)
	if err == nil {
		l.Close()
		t.Fatal("a sidecar works on a ledger that was restored past the import door")
	}
	if !strings.Contains(err.Error(), "select ledger.import_begin(); select ledger.import_end();") {
		t.Fatalf("got %v, want the mend", err)
	}
	for ask[int](t, conn, "select count(*) from pg_stat_activity where datname = current_database()") > 1 {
		if t.Context().Err() != nil {
			t.Fatal("the sidecar's session does not end")
		}
	}
	exec(t, conn, "select ledger.import_begin()")
	exec(t, conn, "select ledger.import_end()")
	wantOpen(t, url)
}

func wantOpen(t *testing.T, url string) {
	t.Helper()
	l, err := Open(t.Context(), url, 2)
	if err != nil {
		t.Fatalf("a sidecar is refused: %v", err)
	}
	l.Close()
}

// Rows of transactions that are long over here: only their writer tells.
func TestARestoredLedgerIsRefusedByItsRows(t *testing.T) {
	t.Parallel()
	source, target := pgtest.New(t), pgtest.New(t)
	from, to := connect(t, source.URL), connect(t, target.URL)
	lived(t, from)
	wantOpen(t, source.SidecarURL)
	restore(t, from, to, "ledger.universal_registry")
	wantRestored(t, target.SidecarURL, to)

	// Living on is no restore; a restore of what has lived on is.
	lived2 := `insert into ledger.universal_registry (entity_type, owner_id, tenant_id, who)
		values ('note', 'bob', 't1', 'user:bob')`
	exec(t, to, lived2)
	exec(t, to, lived2)
	exec(t, to, "vacuum (freeze) ledger.universal_registry")
	wantOpen(t, target.SidecarURL)
	third := pgtest.New(t)
	conn := connect(t, third.URL)
	restore(t, to, conn, "ledger.universal_registry")
	wantRestored(t, third.SidecarURL, conn)
}

// One row is enough where the tail's cursor came along: it names the server that it is of.
func TestARestoredLedgerIsRefusedByItsCursor(t *testing.T) {
	t.Parallel()
	source, target := pgtest.New(t), pgtest.New(t)
	from, to := connect(t, source.URL), connect(t, target.URL)
	exec(t, from, `insert into ledger.universal_registry (entity_type, owner_id, tenant_id, who)
		values ('note', 'alice', 't1', 'user:alice')`)
	exec(t, from, cursorTable)
	exec(t, from, aCursor)
	wantOpen(t, source.SidecarURL)
	// After a promotion of a standby the cursor is of another timeline of the same server.
	exec(t, from, "update engine.cursor set timeline = 7")
	wantOpen(t, source.SidecarURL)

	// The servers of tests are copies of one, whose identifier they share; so the source gets another one.
	exec(t, from, "update engine.cursor set system_id = '1'")
	restore(t, from, to, "ledger.universal_registry")
	exec(t, to, cursorTable)
	wantOpen(t, target.SidecarURL)
	restore(t, from, to, "engine.cursor")
	wantRestored(t, target.SidecarURL, to)

	// The tail worked on after the epoch, elsewhere; or, by its snapshot, in this server's future.
	exec(t, to, "update engine.cursor set stored_at = now()")
	wantRestored(t, target.SidecarURL, to)
	exec(t, to, `update engine.cursor set stored_at = now(), snapshot = '4000000000:4000000000:',
		system_id = (select system_identifier::text from pg_control_system())`)
	wantRestored(t, target.SidecarURL, to)
}
