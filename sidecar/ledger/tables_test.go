package ledger

import (
	"sync"
	"testing"
)

// Every sidecar that misses its tables makes them, all at the same moment.
func TestMakeEngineManyAtOnce(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 8)
	const table = "create table if not exists engine.thing (n int)"
	for range 10 {
		exec(t, conn, "drop schema if exists engine cascade")
		_, err := l.pool.Exec(t.Context(), "select n from engine.thing")
		if !IsEngineMissing(err) {
			t.Fatalf("got %v, want an error that MakeEngine mends", err)
		}
		var sidecars sync.WaitGroup
		for range 8 {
			sidecars.Go(func() {
				if err := l.MakeEngine(t.Context(), table); err != nil {
					t.Error(err)
				}
			})
		}
		sidecars.Wait()
		if _, err := l.pool.Exec(t.Context(), "insert into engine.thing values (1)"); err != nil {
			t.Error(err)
		}
	}
	exec(t, conn, "revoke all on schema engine from loglineos_sidecar")
	if _, err := l.pool.Exec(t.Context(), "select n from engine.thing"); !IsEngineMissing(err) {
		t.Errorf("got %v, want an error that MakeEngine mends", err)
	}
	if err := l.MakeEngine(t.Context(), table); err != nil {
		t.Error(err)
	}
	if _, err := l.pool.Exec(t.Context(), "no sql"); IsEngineMissing(err) || IsEngineMissing(nil) {
		t.Error("a fault that MakeEngine does not mend is taken for one that it does")
	}
}
