package sqlrules

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// tool is a program of Postgres that fits the server.
func (l *ledger) tool(name string) string { return pgtest.Tool(l.t, l.db.URL, name) }

// invoke runs a program of Postgres, which must succeed without a word of error.
func invoke(t *testing.T, program string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "error:") || strings.Contains(string(out), "ERROR:") {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
}

// sealed appends two versions whose hashes are real, of every kind of column.
func (l *ledger) sealed() {
	l.t.Helper()
	s := &span.Span{ID: span.MustID(id(5)), EntityType: "function", Who: "user:alice", OwnerID: "alice",
		TenantID: "t1", Visibility: "private", At: span.NewTime(time.Now()), Status: new("active"),
		Code: new("return \"\\u00e9\";\n\t\\N\\."), Metadata: json.RawMessage(`{"b":1.5,"a":"ü"}`),
		Tags: []string{"x", ""}, Content: json.RawMessage(`[1,null,{"deep":[true]}]`)}
	for seq := range 2 {
		s.Seq = seq
		if err := s.Seal(s.CurrHash); err != nil {
			l.t.Fatal(err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := l.do(alice, `insert into ledger.universal_registry
			select * from json_populate_record(null::ledger.universal_registry, $1)`, string(text)); err != nil {
			l.t.Fatalf("append a sealed span: %v", err)
		}
	}
}

// wantHashes fails unless n rows of the real hashes verify.
func wantHashes(t *testing.T, l *ledger) {
	t.Helper()
	rows := lines(l, "select to_json(r)::text from ledger.universal_registry r where id = '"+id(5)+"'")
	for _, text := range rows {
		s := new(span.Span)
		if err := json.Unmarshal([]byte(text), s); err != nil {
			t.Fatal(err)
		}
		if err := s.VerifyHash(); err != nil {
			t.Errorf("version %d: %v", s.Seq, err)
		}
	}
	if len(rows) != 2 {
		t.Errorf("%d rows with a hash, want 2", len(rows))
	}
}

// source is a ledger to dump; installed by what, for example "create extension loglineos".
func source(t *testing.T, install func(l *ledger)) *ledger {
	t.Helper()
	l := empty(t)
	install(l)
	l.populate()
	l.sealed()
	return l
}

func byMigrations(l *ledger) {
	execute(l.t, l.conn, read(l.t, "../../sql/dist/loglineos.sql"))
}

func byExtension(l *ledger) { run(l.t, l.conn, "create extension loglineos") }

// wantRestored closes the door and compares everything; rows are those of the source.
func wantRestored(t *testing.T, rows []string, to *ledger, beside ...string) {
	t.Helper()
	wantLines(t, lines(to, notEpoch), rows...)
	run(t, to.conn, importEnd)
	wantLines(t, lines(to, notEpoch), rows...)
	wantHashes(t, to)
	wantSameCatalog(t, to, beside...)
	wantLines(t, lines(to, "select wall || ' ' || problem from ledger.guard_check()")) // every wall stands
	to.given(alice, "entity_type", "note")
	wantCode(t, to.append(alice, "id", id(1), "seq", 9, "entity_type", "function"), "LL002")
}

func TestDumpAndRestoreOfTheMigratedForm(t *testing.T) {
	t.Parallel()
	from := source(t, byMigrations)
	dump, restore, psql := from.tool("pg_dump"), from.tool("pg_restore"), from.tool("psql")
	dir := t.TempDir()
	custom, folder := filepath.Join(dir, "custom"), filepath.Join(dir, "folder")
	plain := filepath.Join(dir, "plain.sql")
	invoke(t, dump, "-Fc", "-f", custom, from.db.URL)
	invoke(t, dump, "-Fd", "-j2", "-f", folder, from.db.URL)
	invoke(t, dump, "-f", plain, from.db.URL)
	rows := lines(from, notEpoch)
	older := filepath.Join(dir, "older")
	rowsAlone := pages.Marked(t, "docs/operations.md").Take("pg_restore").Text
	if err := os.Symlink(custom, filepath.Join(dir, "ledger.dump")); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]func(t *testing.T, to *ledger){
		"in one go": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "-d", to.db.URL, custom)
			run(t, to.conn, importBegin)
		},
		"in one transaction": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--single-transaction", "-d", to.db.URL, custom)
			run(t, to.conn, importBegin)
		},
		"two jobs": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "-j2", "-d", to.db.URL, folder)
			run(t, to.conn, importBegin)
		},
		"psql": func(t *testing.T, to *ledger) {
			invoke(t, psql, "-qX", "-v", "ON_ERROR_STOP=1", "-f", plain, to.db.URL)
			run(t, to.conn, importBegin)
		},
		"over an older state": func(t *testing.T, to *ledger) {
			byMigrations(to)
			to.given(bob, "entity_type", "note", "name", "of another life")
			invoke(t, restore, "--exit-on-error", "--clean", "--if-exists", "-d", to.db.URL, custom)
			run(t, to.conn, importBegin)
		},
		"schema, then data through the door": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "--schema-only", "-d", to.db.URL, custom)
			run(t, to.conn, importBegin)
			invoke(t, restore, "--exit-on-error", "--data-only", "-t", "universal_registry", "-d", to.db.URL, custom)
		},
		"the rows alone, as the page says": func(t *testing.T, to *ledger) {
			byMigrations(to)
			pages.Paste(t, dir, []string{"PATH=" + filepath.Dir(restore) + ":" + os.Getenv("PATH"),
				"NEW_URL=" + to.db.URL}, rowsAlone)
			run(t, to.conn, importBegin)
		},
		"twice": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "-d", to.db.URL, custom)
			run(t, to.conn, importBegin)
			run(t, to.conn, importEnd)
			again := older + to.db.Name
			invoke(t, dump, "-Fc", "-f", again, to.db.URL)
			invoke(t, restore, "--exit-on-error", "--clean", "-d", to.db.URL, again)
			run(t, to.conn, importBegin)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := empty(t)
			test(t, to)
			wantRestored(t, rows, to)
		})
	}
	for name, attributes := range map[string]string{"bare": "", "like Supabase's": "bypassrls replication"} {
		t.Run("as an owner without superuser, "+name, func(t *testing.T) {
			t.Parallel()
			to := owned(t, attributes)
			invoke(t, restore, "--exit-on-error", "--no-owner", "--role="+to.user(), "-d", to.db.URL, custom)
			run(t, to.conn, importBegin)
			wantRestored(t, rows, to)

			// And what such an owner dumps.
			again := filepath.Join(dir, to.db.Name)
			args := []string{"-Fc", "-f", again, "--role=" + to.user(), to.db.URL}
			if attributes == "" {
				args = append([]string{"--enable-row-security"}, args...)
			}
			invoke(t, dump, args...)
			copied := owned(t, attributes)
			invoke(t, restore, "--exit-on-error", "--no-owner", "--role="+copied.user(), "-d", copied.db.URL, again)
			wantLines(t, lines(copied, allRows), lines(to, allRows)...)
		})
	}
}

// The sidecar's tables are the owner's after pg_restore --no-owner, and the sidecar's again at its start.
func TestARestoreWithoutOwnersLetsTheSidecarWork(t *testing.T) {
	t.Parallel()
	from := source(t, byMigrations)
	wantCode(t, from.do(engine, "create table engine.cursor (slot text)"), "")
	custom := filepath.Join(t.TempDir(), "custom")
	invoke(t, from.tool("pg_dump"), "-Fc", "-f", custom, from.db.URL)

	to, restore := owned(t, ""), from.tool("pg_restore")
	invoke(t, restore, "--exit-on-error", "--no-owner", "--role="+to.user(), "-d", to.db.URL, custom)
	run(t, to.conn, importBegin)
	run(t, to.conn, importEnd)
	wantCode(t, to.do(engine, "select from engine.cursor"), "42501")
	wantCode(t, to.do(engine, "select ledger_private.make_engine()"), "")
	wantCode(t, to.do(engine, "select from engine.cursor"), "")
	wantLines(t, lines(to, "select wall || ' ' || problem from ledger.guard_check()"))
}

// user is who the ledger's session is.
func (l *ledger) user() string {
	l.t.Helper()
	return lines(l, "select current_user::text")[0]
}

func TestDumpAndRestoreOfTheExtensionForm(t *testing.T) {
	t.Parallel()
	first := empty(t)
	installExtensionFiles(t, first)
	from := source(t, byExtension)
	dump, restore, psql := from.tool("pg_dump"), from.tool("pg_restore"), from.tool("psql")
	dir := t.TempDir()
	custom, folder := filepath.Join(dir, "custom"), filepath.Join(dir, "folder")
	plain := filepath.Join(dir, "plain.sql")
	invoke(t, dump, "-Fc", "-f", custom, from.db.URL)
	invoke(t, dump, "-Fd", "-j2", "-f", folder, from.db.URL)
	invoke(t, dump, "-f", plain, from.db.URL)
	rows := lines(from, notEpoch)
	text := string(read(t, plain))
	if !strings.Contains(text, "COPY ledger.universal_registry") || strings.Contains(text, "CREATE TABLE") {
		t.Fatal("the dump is not that of an extension with its rows")
	}
	for name, test := range map[string]func(t *testing.T, to *ledger){
		"in one go": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "-d", to.db.URL, custom)
		},
		"in one transaction": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--single-transaction", "-d", to.db.URL, custom)
		},
		"with row security": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "--enable-row-security", "-d", to.db.URL, custom)
		},
		"two jobs": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "-j2", "-d", to.db.URL, folder)
		},
		"psql": func(t *testing.T, to *ledger) {
			invoke(t, psql, "-qX", "-v", "ON_ERROR_STOP=1", "-f", plain, to.db.URL)
		},
		"over an older state": func(t *testing.T, to *ledger) {
			byExtension(to)
			to.given(bob, "entity_type", "note", "name", "of another life")
			invoke(t, restore, "--exit-on-error", "--clean", "--if-exists", "-d", to.db.URL, custom)
		},
		"data through the door": func(t *testing.T, to *ledger) {
			byExtension(to)
			run(t, to.conn, importBegin)
			invoke(t, restore, "--exit-on-error", "--data-only", "-d", to.db.URL, custom)
		},
		"without publications": func(t *testing.T, to *ledger) {
			invoke(t, restore, "--exit-on-error", "--no-publications", "-d", to.db.URL, custom)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := empty(t)
			test(t, to)
			wantCode(t, to.append(alice, "entity_type", "note"), "LL018")
			wantRestored(t, rows, to, lock...)
			wantCode(t, to.do(owner, "drop extension loglineos"), "2BP01")
		})
	}
	for name, attributes := range map[string]string{"bare": "", "like Supabase's": "bypassrls replication"} {
		t.Run("as an owner without superuser, "+name, func(t *testing.T) {
			t.Parallel()
			to := owned(t, attributes)
			invoke(t, restore, "--exit-on-error", "--no-owner", "--role="+to.user(), "-d", to.db.URL, custom)
			wantRestored(t, rows, to, lock...)
		})
	}
}

func TestDropExtensionIsRefused(t *testing.T) {
	t.Parallel()
	l := empty(t)
	installExtensionFiles(t, l)
	byExtension(l)
	refused := func(statement string) {
		t.Helper()
		err := l.do(owner, statement)
		wantCode(t, err, "2BP01")
		var refusal *pgconn.PgError
		if errors.As(err, &refusal) && !strings.Contains(refusal.Detail, "drop_extension_destroys_the_ledger") &&
			!strings.Contains(refusal.Hint, "drop extension loglineos") {
			t.Errorf("%s: the refusal names nothing: %s; %s", statement, refusal.Detail, refusal.Hint)
		}
	}
	refused("drop extension loglineos") // also while it is empty: the way out is the same
	l.given(alice, "entity_type", "note")
	refused("drop extension loglineos")
	refused("drop schema ledger cascade")
	refused("drop table ledger.universal_registry cascade")
	refused("drop schema ledger, ledger_private cascade")
	if n := ask[int](l, owner, "select count(*) from ledger.history"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}

	// Said twice, or with the lock taken away, it is done. The publication stays, and is mended.
	run(t, l.conn, "drop extension loglineos cascade")
	wantLines(t, lines(l, "select pubname::text from pg_publication"), "loglineos")
	byExtension(l)
	wantSameCatalog(t, l, lock...)
	refused("drop extension loglineos")
	run(t, l.conn, "drop function ledger_private.drop_extension_destroys_the_ledger()")
	run(t, l.conn, "drop extension loglineos")
	byExtension(l)
	wantSameCatalog(t, l, lock...)
}
