package sqlrules

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// change is a statement that would change or remove rows, if it could. since is the version of Postgres that
// has it.
type change struct {
	name, do string
	since    int
}

// changes are all paths of SQL that the server has. The row with id(1) is there, that with id(2) is not.
func changes(l *ledger) []change {
	onConflict := func(table, id string) string {
		return `insert into ` + table + ` (id, seq, entity_type, who, owner_id, tenant_id)
			values ('` + id + `', 0, 'note', 'user:alice', 'alice', 't1')
			on conflict (id, seq) do update set who = 'x'`
	}
	merge := `merge into ledger.universal_registry r using (select '` + id(1) + `'::uuid as id) s
		on r.id = s.id `
	const registry = "ledger.universal_registry"
	version := ask[int](l, owner, "select current_setting('server_version_num')::int / 10000")
	return slices.DeleteFunc([]change{
		{name: "update", do: "update ledger.universal_registry set name = 'x'"},
		{name: "update of a column to itself", do: "update ledger.universal_registry set name = name"},
		{name: "update of no row", do: "update ledger.universal_registry set name = 'x' where false"},
		{name: "update of the newest", do: "update ledger.visible_timeline set name = 'x'"},
		{name: "update through a view", do: "update ledger.history set name = 'x'"},
		{name: "update in a query", do: `
			with changed as (update ledger.universal_registry set name = 'x' returning id)
			select * from changed`},
		{name: "update where a cursor stands", do: `do $$ declare v_row record;
				v_cursor cursor for select * from ledger.universal_registry for update; begin
			open v_cursor; fetch v_cursor into v_row;
			update ledger.universal_registry set name = 'x' where current of v_cursor; end $$`},
		{name: "delete", do: "delete from ledger.universal_registry"},
		{name: "delete of no row", do: "delete from ledger.universal_registry where false"},
		{name: "delete through a view", do: "delete from ledger.history"},
		{name: "delete of the newest", do: "delete from ledger.visible_timeline"},
		{name: "delete in a query", do: `with gone as (delete from ledger.universal_registry returning *)
			select * from gone`},
		{name: "truncate", do: "truncate ledger.universal_registry"},
		{name: "truncate cascade", do: "truncate ledger.universal_registry restart identity cascade"},
		{name: "on conflict do update", do: onConflict(registry, id(1))},
		{name: "on conflict do update without a conflict", do: onConflict(registry, id(2))},
		{name: "on conflict do update through a view", do: onConflict("ledger.history", id(1))},
		{name: "merge update", do: merge + "when matched then update set name = 'x'"},
		{name: "merge delete", do: merge + "when matched then delete"},
		{name: "merge of no row", do: merge + "and false when matched then delete"},
		{name: "merge delete of what is not named", since: 17, do: strings.Replace(merge, id(1), id(2), 1) +
			"when not matched by source then delete"},
		{name: "merge returning", since: 17, do: "with m as (" + merge +
			"when matched then update set name = 'x' returning r.id) select * from m"},
	}, func(c change) bool { return c.since > version })
}

// owners are ledgers by the role that owns them: a superuser (none), one as on Supabase, and one with nothing
// but the right to become a replica.
func owners(t *testing.T) map[string]*ledger {
	t.Helper()
	all := map[string]*ledger{"none": setup(t)}
	for _, attributes := range []string{"bypassrls replication", ""} {
		l := owned(t, attributes)
		execute(t, l.conn, newestMigration(t))
		var role string
		if err := l.conn.QueryRow(t.Context(), "select current_user").Scan(&role); err != nil {
			t.Fatal(err)
		}
		run(t, l.conn, "reset role")
		run(t, l.conn, "grant set on parameter session_replication_role to "+role)
		all[role] = l
	}
	return all
}

// Every path that changes or removes a row, as the strongest roles there are.
func TestRefusesChangeOnEveryPath(t *testing.T) {
	t.Parallel()
	for role, l := range owners(t) {
		l.given(alice, "id", id(1), "entity_type", "note", "name", "first")
		for _, path := range changes(l) {
			for _, replication := range []string{"origin", "replica", "local"} {
				t.Run(role+" "+path.name+" as "+replication, func(t *testing.T) {
					who := actor{role: role, settings: map[string]string{"session_replication_role": replication}}
					wantCode(t, l.do(who, path.do), "LL001")
				})
			}
		}
		wantLines(t, lines(l, "select name from ledger.history"), "first")
	}
}

// Nobody else even has the right.
func TestGivesNobodyTheRightToChange(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note")
	statements := append(changes(l), []change{
		{name: "for update", do: "select * from ledger.universal_registry for update"},
		{name: "for key share", do: "select * from ledger.universal_registry for key share"},
		{name: "insert through a view", do: "insert into ledger.history (entity_type) values ('note')"},
		{name: "lock", do: "lock table ledger.universal_registry in access exclusive mode"},
		{name: "triggers off", do: "alter table ledger.universal_registry disable trigger all"},
		{name: "a rule", do: "create rule x as on insert to ledger.universal_registry do instead nothing"},
		{name: "a trigger", do: `create trigger x before insert on ledger.universal_registry
			for each row execute function pg_catalog.suppress_redundant_updates_trigger()`},
		{name: "a child", do: "create temporary table x () inherits (ledger.universal_registry)"},
		{name: "a foreign key", do: `create temporary table x (id uuid, seq integer,
			foreign key (id, seq) references ledger.universal_registry)`},
		{name: "a table beside", do: "create table ledger.x (i integer)"},
		{name: "become a replica", do: "set local session_replication_role = replica"},
		{name: "drop", do: "drop table ledger.universal_registry"},
	}...)
	for _, who := range []actor{alice, governor, anon, service, engine, {role: "loglineos_kernel"}} {
		for _, path := range statements {
			t.Run(who.role+" "+path.name, func(t *testing.T) {
				err := l.do(who, path.do)
				if path.name == "a foreign key" && !sameCode(err, "42501") {
					wantCode(t, err, "42P16") // a temporary table may not refer to one that stays
					return
				}
				wantCode(t, err, "42501")
			})
		}
	}
}

// A key to or from another table is a path, too: its actions run as the owner of the ledger.
func TestRefusesChangeThroughAForeignKey(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note", "app_id", "a")
	for _, statement := range []string{
		"create table public.apps (id text primary key)", "insert into public.apps values ('a'), ('b')",
		`alter table ledger.universal_registry add foreign key (app_id) references public.apps
			on delete cascade on update cascade`,
	} {
		run(t, l.conn, statement)
	}
	for _, statement := range []string{
		"delete from public.apps", "update public.apps set id = 'c' where id = 'a'", "truncate public.apps cascade",
	} {
		t.Run(statement, func(t *testing.T) { wantCode(t, l.do(owner, statement), "LL001") })
	}

	// The other way round it holds on to a row, which nobody removes anyway.
	run(t, l.conn, `create table public.notes (id uuid, seq integer, foreign key (id, seq)
		references ledger.universal_registry on delete cascade)`)
	run(t, l.conn, "insert into public.notes values ($1, 0)", id(1))
	wantCode(t, l.do(owner, "truncate ledger.universal_registry, public.notes"), "LL001")
}

// COPY inserts, so the guards judge it row by row; and it is not for those whom policies bind.
func TestGuardsCopy(t *testing.T) {
	t.Parallel()
	l := setup(t)
	load := func(who actor, row string) error {
		return l.in(who, func(tx pgx.Tx) error {
			_, err := tx.Conn().PgConn().CopyFrom(t.Context(), strings.NewReader(row+"\n"),
				"copy ledger.universal_registry (entity_type, owner_id, tenant_id, who, xact) from stdin")
			return err
		})
	}
	for _, who := range []actor{anon, {role: "loglineos_kernel"}} {
		wantCode(t, load(who, "note\talice\tt1\tuser:alice\t1"), "42501")
	}
	for _, who := range []actor{alice, service, engine} {
		wantCode(t, load(who, "note\talice\tt1\tuser:alice\t1"), "0A000")
	}
	wantCode(t, load(owner, "execution\talice\tt1\tuser:alice\t1"), "LL004")
	wantCode(t, load(owner, "note\talice\tt1\tuser:alice\t1"), "")
	wantLines(t, lines(l, "select (xact <> '1')::text from ledger.history"), "true")
}

// What locks a row changes none: a query FOR UPDATE is allowed to the owner and holds nobody up.
func TestLocksHurtNobody(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note")
	err := l.in(owner, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "select * from ledger.universal_registry for update"); err != nil {
			return err
		}
		other := &ledger{t: t, db: l.db, conn: connect(t, l.db.URL)}
		return other.append(alice, "id", id(1), "seq", 1, "entity_type", "note")
	})
	if err != nil {
		t.Error(err)
	}
}

// The apply worker of a logical replication is a replica that fires no statement triggers, but on TRUNCATE.
func TestRefusesChangeByReplication(t *testing.T) {
	t.Parallel()
	from, to := pgtest.NewCluster(t, nil), pgtest.NewCluster(t, nil)
	for _, path := range []change{
		{name: "update", do: "update ledger.universal_registry set name = 'x'"},
		{name: "delete", do: "delete from ledger.universal_registry"},
		{name: "truncate", do: "truncate ledger.universal_registry"},
		{name: "insert of what the engine writes", do: `insert into ledger.universal_registry (id, seq, entity_type,
			who, at, accepted_at, xact, owner_id, tenant_id, visibility, is_deleted) values (gen_random_uuid(), 0,
			'execution', 'kernel:x', now(), now(), '1', 'alice', 't1', 'private', false)`},
	} {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			there, here := from.New(t), to.New(t)
			publisher, subscriber := connect(t, there.URL), connect(t, here.URL)
			run(t, publisher, "alter table ledger.universal_registry disable trigger all")
			run(t, publisher, "create publication everything for table ledger.universal_registry")
			run(t, publisher, `insert into ledger.universal_registry (id, seq, entity_type, who, at, accepted_at, xact,
				owner_id, tenant_id, visibility, is_deleted, name) values ($1, 0, 'note', 'user:alice', now(),
				'2001-01-01', '1', 'alice', 't1', 'private', false, 'first')`, id(1))
			run(t, subscriber, `create subscription mirror connection '`+there.URL+`' publication everything
				with (slot_name = `+there.Name+`, disable_on_error = true)`)
			t.Cleanup(func() {
				conn := connectForever(t, here.URL)
				for _, statement := range []string{"alter subscription mirror disable",
					"alter subscription mirror set (slot_name = none)", "drop subscription mirror"} {
					run(t, conn, statement)
				}
			})
			// An insert passes as one of the owner's, and is stamped here.
			l := &ledger{t: t, db: here, conn: subscriber}
			eventually(t, l, `select exists (select from ledger.universal_registry
				where name = 'first' and accepted_at > now() - interval '1 hour' and xact > '1')`)
			run(t, publisher, path.do)
			eventually(t, l, "select not subenabled from pg_subscription where subname = 'mirror'")
			wantLines(t, lines(l, `select concat_ws(' ', id, seq, name) from ledger.universal_registry`),
				id(1)+" 0 first")
		})
	}
}

// eventually asks until the answer is true.
func eventually(t *testing.T, l *ledger, question string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ask[bool](l, owner, question) {
		select {
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", question)
		case <-ticker.C:
		}
	}
}

// A guard that only an ordinary session meets is none: Supabase lets the owner become a replica.
func TestGuardsInsertsOfAReplica(t *testing.T) {
	t.Parallel()
	l := setup(t)
	who := owner
	who.settings = map[string]string{"session_replication_role": "replica"}
	wantCode(t, l.append(who, "id", id(1), "seq", 3, "entity_type", "note", "owner_id", "a",
		"tenant_id", "t1"), "LL002")
	wantCode(t, l.append(who, "id", id(1), "entity_type", "execution", "owner_id", "a",
		"tenant_id", "t1"), "LL004")

	enabled := ask[int](l, owner, `select count(*) from pg_trigger
		where tgrelid = 'ledger.universal_registry'::regclass and not tgisinternal and tgenabled = 'A'`)
	if all := ask[int](l, owner, `select count(*) from pg_trigger
		where tgrelid = 'ledger.universal_registry'::regclass and not tgisinternal`); enabled != all {
		t.Errorf("%d of %d triggers are enabled always", enabled, all)
	}
}

// FORCE binds an owner who is neither superuser nor BYPASSRLS, even one who disables the triggers.
func TestForcedPoliciesHoldWithoutTriggers(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note")
	role := "owner_of_" + l.db.Name
	t.Cleanup(func() {
		cleanup := connectForever(t, l.db.URL)
		run(t, cleanup, "alter table ledger.universal_registry owner to session_user")
		run(t, cleanup, "drop owned by "+role)
		run(t, cleanup, "drop role "+role)
	})
	for _, statement := range []string{
		"create role " + role,
		"grant usage on schema ledger to " + role,
		"grant create on schema ledger to " + role,
		"alter table ledger.universal_registry owner to " + role,
		"alter table ledger.universal_registry disable trigger all",
	} {
		run(t, l.conn, statement)
	}
	err := l.in(actor{role: role}, func(tx pgx.Tx) error {
		for _, statement := range []string{
			"update ledger.universal_registry set name = 'x'", "delete from ledger.universal_registry",
		} {
			tag, err := tx.Exec(t.Context(), statement)
			if err != nil {
				return err
			}
			if tag.RowsAffected() != 0 {
				t.Errorf("%s touched %d rows", statement, tag.RowsAffected())
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
