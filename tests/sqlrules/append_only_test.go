package sqlrules

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// Every path that changes or removes a row, as the strongest role there is.
func TestRefusesChangeOnEveryPath(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note", "name", "first")

	const onConflict = `insert into ledger.universal_registry (id, seq, entity_type, who, owner_id, tenant_id)
		values ($1, 0, 'note', 'user:x', 'alice', 't1') on conflict (id, seq) do update set who = 'x'`
	const merge = `merge into ledger.universal_registry r using (select $1::uuid as id) s on r.id = s.id `
	one := []any{id(1)}
	paths := []struct {
		name, statement string
		arguments       []any
	}{
		{"update", "update ledger.universal_registry set name = 'x'", nil},
		{"update of one column to itself", "update ledger.universal_registry set name = name", nil},
		{"update of no row", "update ledger.universal_registry set name = 'x' where false", nil},
		{"update through a view", "update ledger.history set name = 'x'", nil},
		{"delete", "delete from ledger.universal_registry", nil},
		{"delete of no row", "delete from ledger.universal_registry where false", nil},
		{"delete through a view", "delete from ledger.history", nil},
		{"truncate", "truncate ledger.universal_registry", nil},
		{"truncate cascade", "truncate ledger.universal_registry cascade", nil},
		{"on conflict do update", onConflict, one},
		{"on conflict do update without a conflict", onConflict, []any{id(2)}},
		{"merge update", merge + "when matched then update set name = 'x'", one},
		{"merge delete", merge + "when matched then delete", one},
	}
	for _, path := range paths {
		for _, replication := range []string{"origin", "replica", "local"} {
			t.Run(path.name+" as "+replication, func(t *testing.T) {
				who := owner
				who.settings = map[string]string{"session_replication_role": replication}
				wantCode(t, l.do(who, path.statement, path.arguments...), "LL001")
			})
		}
	}
	if name := ask[string](l, owner, "select name from ledger.history"); name != "first" {
		t.Errorf("the row is now %q", name)
	}
}

func TestGivesNobodyTheRightToChange(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note")
	kernel := actor{role: "loglineos_kernel"}
	for _, who := range []actor{alice, governor, anon, service, engine, kernel} {
		for _, statement := range []string{
			"update ledger.universal_registry set name = 'x'",
			"delete from ledger.universal_registry",
			"truncate ledger.universal_registry",
			"update ledger.visible_timeline set name = 'x'",
			"insert into ledger.history (entity_type) values ('note')",
			"alter table ledger.universal_registry disable trigger all",
			"create table ledger.x (i integer)",
		} {
			t.Run(who.role+" "+statement, func(t *testing.T) {
				wantCode(t, l.do(who, statement), "42501")
			})
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
