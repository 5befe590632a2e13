package chaos_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/devdb"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// The primary dies under load and a standby is promoted, at the same address: it has another timeline and no
// slot, and may lack the last commits. Of what it has nothing is missed or doubled.
func TestAPromotedStandbyLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{hasFront: true, settings: map[string]string{"wal_keep_size": "512MB"}})
	standby := w.standBy()
	w.add("a")
	w.add("b")
	w.storm(120, []fault{
		faultNamed("kill -9 of the leader"),
		{"the primary dies, and the standby is promoted", func(w *world) {
			w.stopPostgres(syscall.SIGQUIT)
			w.promote(standby)
		}},
		faultNamed("kill -9 of the leader"),
	})
	w.conclude()
	if timeline := one[int](w, "select timeline_id from pg_control_checkpoint()"); timeline != 2 {
		t.Errorf("seed %d: the timeline is %d, want 2", w.seed, timeline)
	}
}

// standBy starts a streaming standby: a copy of the primary at rest, for not every Postgres brings
// pg_basebackup.
func (w *world) standBy() *devdb.Server {
	w.t.Helper()
	primary, dir := w.cluster.Server, pgtest.Dir(w.t)
	w.stopPostgres(syscall.SIGINT)
	copied := filepath.Join(dir, filepath.Base(primary.Data()))
	for _, paths := range [][2]string{{primary.Data(), copied},
		{filepath.Join(primary.Dir, "postgres.password"), filepath.Join(dir, "postgres.password")}} {
		if said, err := exec.Command("cp", "-a", paths[0], paths[1]).CombinedOutput(); err != nil {
			w.t.Fatalf("copy the primary: %v: %s", err, said)
		}
	}
	w.restartPostgres()
	if err := os.WriteFile(filepath.Join(copied, "standby.signal"), nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	config, err := pgx.ParseConfig(primary.URL("postgres"))
	if err != nil {
		w.t.Fatal(err)
	}
	standby, err := devdb.Start(w.t.Context(), devdb.Options{Dir: dir, DieWithParent: true,
		Settings: map[string]string{"fsync": "off", "shared_buffers": "32MB", "max_connections": "200",
			"primary_conninfo": "host=127.0.0.1 user=postgres port=" + strconv.Itoa(primary.Port) +
				" password=" + config.Password}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = standby.Kill() })
	program.Eventually(w.t, "the standby streams", func() bool {
		n, err := ask[int](w, "select count(*) from pg_stat_replication where state = 'streaming'")
		return err == nil && n == 1
	})
	return standby
}

// promote makes a standby the server of this world.
func (w *world) promote(standby *devdb.Server) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), standby.URL("postgres"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(w.t.Context()) }()
	began := time.Now()
	var isPromoted bool
	if err := conn.QueryRow(w.t.Context(), "select pg_promote()").Scan(&isPromoted); err != nil || !isPromoted {
		w.t.Fatalf("promote the standby: %t, %v", isPromoted, err)
	}
	w.front.retarget(net.JoinHostPort("127.0.0.1", strconv.Itoa(standby.Port)))
	w.owner.Reset()
	w.api.Reset()
	w.leader()
	w.t.Logf("led again %d ms after the promotion began", time.Since(began).Milliseconds())
}
