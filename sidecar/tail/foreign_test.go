package tail

import (
	"slices"
	"testing"
)

// Rows of another cluster carry its transactions, here far ahead of this one's: they are no news, whatever
// happens to slot and cursor while this cluster's counter is behind them.
func TestRowsOfAnotherClusterAreNeverHandedOver(t *testing.T) {
	t.Parallel()
	for _, source := range []Source{WAL, Poll} {
		t.Run(string(source), func(t *testing.T) {
			t.Parallel()
			f := setup(t, nil)
			execute(t, f.conn, "select ledger.import_begin()")
			execute(t, f.conn, `insert into ledger.universal_registry (id, seq, entity_type, who, at, xact,
					accepted_at, owner_id, tenant_id, visibility, is_deleted)
				select ledger.uuid7(), 0, 'note', 'client:test', now(), n::text::xid8, now(), 'alice', 't1',
					'private', false
				from unnest(array[3, 700, 900, 5000000, 5000001]) n`)
			execute(t, f.conn, "select ledger.import_end()")
			// A dump takes the cursor along.
			execute(t, f.conn, `set role loglineos_sidecar; `+cursorSQL+`; reset role;
				insert into engine.cursor values ('`+f.db.Name+`', '1', 1, 'F/0', '700:5000001:700')`)
			from := func(w *follower) { w.config.Source = source }
			var want []string
			for _, loss := range []string{"select 1", "delete from engine.cursor", "drop schema engine cascade"} {
				execute(t, f.conn, loss)
				w := f.follow(t, from)
				eventually(t, "it leads", func() bool { return w.tail.Health().Leads })
				want = append(want, insert(t, f.conn, "new"))
				eventually(t, "the new rows come", func() bool { return slices.Contains(w.ids(), want[len(want)-1]) })
				for _, id := range w.ids() {
					isNew := ask[bool](t, f.conn, `select accepted_at > (
							select max((metadata ->> 'accepted_until')::timestamptz) from ledger.universal_registry
							where entity_type = 'epoch'
						) from ledger.universal_registry where id = $1::text::uuid`, id)
					if !isNew {
						t.Errorf("after %s: the imported row %s came", loss, id)
					}
				}
				for _, id := range want {
					if !slices.Contains(w.ids(), id) && loss != "select 1" {
						t.Errorf("after %s: %s is missed", loss, id)
					}
				}
				w.end()
			}
		})
	}
}

// A clock that steps back after an import: what is appended then looks older than what came in, and is new.
func TestAClockThatStepsBackAfterAnImportHidesNoRow(t *testing.T) {
	t.Parallel()
	for _, source := range []Source{WAL, Poll} {
		t.Run(string(source), func(t *testing.T) {
			t.Parallel()
			f := setup(t, nil)
			execute(t, f.conn, "select ledger.import_begin()")
			// The clock as it was: an hour ahead. Half of the rows have transactions that are still to come here.
			execute(t, f.conn, `insert into ledger.universal_registry (id, seq, entity_type, who, at, xact,
					accepted_at, owner_id, tenant_id, visibility, is_deleted)
				select ledger.uuid7(), 0, 'note', 'client:test', now(), n::text::xid8, now(), 'alice', 't1',
					'private', false
				from unnest(array[3, 700, 5000000, 5000001]) n`)
			execute(t, f.conn, "select ledger.import_end()")
			execute(t, f.conn, `do $$ declare t name; begin
				alter table ledger.universal_registry disable trigger all;
				update ledger.universal_registry set metadata = metadata || jsonb_build_object('accepted_until',
					now() + interval '1 hour') where entity_type = 'epoch';
				for t in select tgname from pg_trigger where tgrelid = 'ledger.universal_registry'::regclass loop
					execute format('alter table ledger.universal_registry enable always trigger %I', t);
				end loop;
			end $$`)
			w := f.follow(t, func(w *follower) { w.config.Source = source })
			eventually(t, "it leads", func() bool { return w.tail.Health().Leads })
			want := []string{insert(t, f.conn, "new")}
			execute(t, f.conn, "begin; savepoint a") // its rows have a writer of their own
			want = append(want, insert(t, f.conn, "in a subtransaction"))
			execute(t, f.conn, "commit")
			arrive := func(w *follower) {
				t.Helper()
				for _, id := range want {
					eventually(t, "the new rows come", func() bool { return slices.Contains(w.ids(), id) })
				}
				if n := len(w.ids()); n > len(want)+1 { // the epoch is no import
					t.Errorf("%d rows came, want %d and the epoch", n, len(want))
				}
			}
			arrive(w)
			w.end()
			execute(t, f.conn, "drop schema engine cascade")
			again := f.follow(t, func(w *follower) { w.config.Source = source })
			arrive(again)
		})
	}
}
