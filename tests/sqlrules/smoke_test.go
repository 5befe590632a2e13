package sqlrules

import "testing"

// TestSmoke walks through the whole path once: what runs on every supported Postgres, also where there is
// no time for all the rest (scripts/testrun).
func TestSmoke(t *testing.T) {
	t.Parallel()
	l := empty(t)
	execute(t, l.conn, migration(t, "0_1_0"))
	l.given(alice, "id", id(8), "entity_type", "note", "name", "of 0.1.0")
	execute(t, l.conn, migration(t, "0_2_0"))
	wantSameCatalog(t, l)
	l.populate()
	l.sealed()
	wantHashes(t, l)

	// Each layer refuses: the roles, the policies, the triggers, the key.
	wantCode(t, l.append(anon, "entity_type", "note"), "42501")
	wantCode(t, l.append(alice, "entity_type", "note", "owner_id", "bob"), "LL006")
	wantCode(t, l.append(alice, "entity_type", "execution"), "LL004")
	wantCode(t, l.append(bob, "id", id(1), "seq", 3, "entity_type", "function"), "LL002")
	wantCode(t, l.append(alice, "id", id(8), "entity_type", "note"), "23505")
	wantCode(t, l.append(alice, "entity_type", "NOT A WORD"), "LL017")
	for _, change := range []string{"update ledger.universal_registry set name = 'x'",
		"delete from ledger.universal_registry", "truncate ledger.universal_registry cascade",
		"merge into ledger.universal_registry r using (select 1) s on true when matched then delete"} {
		wantCode(t, l.do(owner, change), "LL001")
	}
	for _, read := range []struct {
		who  actor
		want int
	}{{alice, 3}, {ann, 3}, {bob, 1}, {anon, 0}, {service, 6}} {
		if n := ask[int](l, read.who, "select count(*) from ledger.visible_timeline"); n != read.want {
			t.Errorf("%s sees %d spans, want %d", read.who.claims, n, read.want)
		}
	}
	wantLines(t, lines(l, "select wall || ': ' || problem from ledger.guard_check()"))

	// The other forms, and the import door between two of them.
	pasted := empty(t)
	byMigrations(pasted)
	wantSameCatalog(t, pasted)
	extension := empty(t)
	installExtensionFiles(t, extension)
	run(t, extension.conn, "create extension loglineos version '0.1.0'")
	run(t, extension.conn, "alter extension loglineos update")
	wantSameCatalog(t, extension, lock...)
	wantCode(t, extension.do(owner, "drop extension loglineos"), "2BP01")
	run(t, extension.conn, importBegin)
	wantCode(t, copyRows(l, extension), "")
	run(t, extension.conn, importEnd)
	wantLines(t, lines(extension, notEpoch), lines(l, allRows)...)
	wantHashes(t, extension)
}
