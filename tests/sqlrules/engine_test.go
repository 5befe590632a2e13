package sqlrules

import (
	"strings"
	"testing"
)

const canMakeTables = `select coalesce(has_schema_privilege('loglineos_sidecar', to_regnamespace('engine'),
	'usage, create'), false)`

const allWalls = `select concat_ws(' ', kind, name, stands) from ledger_private.standing_walls() order by 1`

// The schema engine may go at any time: the sidecar makes it again, and no wall falls on the way.
func TestMakeEngineMakesTheSchemaAgain(t *testing.T) {
	t.Parallel()
	l := setup(t)
	built := strings.Join(lines(l, allWalls), "\n")
	for _, loss := range []string{
		"drop schema engine cascade",
		"revoke all on schema engine from loglineos_sidecar",
		"revoke create on schema engine from loglineos_sidecar",
		"select 1", // nothing is gone
	} {
		run(t, l.conn, loss)
		wantWallsStand(t, l.conn)
		wantCode(t, l.do(engine, "select ledger_private.make_engine()"), "")
		if !ask[bool](l, owner, canMakeTables) {
			t.Errorf("after %s: the sidecar may make no tables", loss)
		}
		wantCode(t, l.do(engine, "create table engine.thing (n int)"), "")
		wantCode(t, l.do(engine, "drop table if exists engine.thing"), "")
		wantWallsStand(t, l.conn)
	}
	now := strings.Join(lines(l, allWalls), "\n")
	if now != built {
		t.Errorf("the walls are not as they were built: %s", now)
	}
	for _, who := range []actor{anon, alice, governor, service, kernelFor("alice", "t1")} {
		wantCode(t, l.do(who, "select ledger_private.make_engine()"), "42501")
	}
}

// What pg_restore --no-owner leaves: the sidecar's tables, with its cursor, as the owner's.
func TestMakeEngineGivesTheSidecarItsTablesBack(t *testing.T) {
	t.Parallel()
	l := setup(t)
	run(t, l.conn, "create table engine.thing (n int); insert into engine.thing values (7)")
	wantCode(t, l.do(engine, "select n from engine.thing"), "42501")
	wantCode(t, l.do(engine, "select ledger_private.make_engine()"), "")
	if n := ask[int](l, engine, "select n from engine.thing"); n != 7 {
		t.Errorf("the table has %d, want the 7 that it had", n)
	}
	wantCode(t, l.do(engine, "drop table engine.thing"), "")
	wantWallsStand(t, l.conn)
}

// A stranger's schema of that name is none that the sidecar may work in: its owner replaces what is in it.
func TestMakeEngineRefusesAStrangersSchema(t *testing.T) {
	t.Parallel()
	l := setup(t)
	name := "squatter_" + ask[string](l, owner, "select current_database()")
	run(t, l.conn, `create role "`+name+`"`)
	t.Cleanup(func() {
		run(t, connectForever(t, l.db.URL), `drop owned by "`+name+`"; drop role "`+name+`"`)
	})
	run(t, l.conn, `drop schema engine cascade; create schema engine authorization "`+name+`"`)
	err := l.do(engine, "select ledger_private.make_engine()")
	wantCode(t, err, "55000")
	if err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want the owner's name in it", err)
	}
}
