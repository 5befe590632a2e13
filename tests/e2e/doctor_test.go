package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// doctor runs `logline doctor --json` and returns what it found.
func (s *system) doctor(more ...string) []app.Finding {
	s.t.Helper()
	return examine(s.t, s.environment(more...))
}

func examine(t *testing.T, env []string, more ...string) []app.Finding {
	t.Helper()
	p := program.Start(t, env, append([]string{"doctor", "--json"}, more...)...)
	code := p.Wait()
	var found []app.Finding
	decoder := json.NewDecoder(strings.NewReader(p.Out.String()))
	for decoder.More() {
		var f app.Finding
		if err := decoder.Decode(&f); err != nil {
			t.Fatalf("decode %s: %v", p.Out.String(), err)
		}
		if f.Mend == "" && (f.Level == app.Fault || f.Level == app.Warning) {
			t.Errorf("%s is told of without a mend: %s", f.Check, f.Cause)
		}
		found = append(found, f)
	}
	if want := map[bool]int{true: 0, false: 1}[app.Sound(found)]; code != want {
		t.Errorf("the doctor exits with %d, want %d", code, want)
	}
	for _, secret := range []string{"secret-word", "postgrest"} {
		if strings.Contains(p.Out.String()+p.Err.String(), secret) {
			t.Errorf("it prints a password:\n%s%s", p.Out.String(), p.Err.String())
		}
	}
	return found
}

// tells fails unless a finding of this check and level has these words in cause or mend.
func tells(t *testing.T, found []app.Finding, check string, level app.Level, words ...string) {
	t.Helper()
	if !slices.ContainsFunc(found, func(f app.Finding) bool {
		return f.Check == check && f.Level == level && !slices.ContainsFunc(words, func(word string) bool {
			return !strings.Contains(f.Cause+" | "+f.Mend, word)
		})
	}) {
		t.Errorf("no %s of %q with %q in:\n%s", level, check, words, listed(found))
	}
}

func listed(found []app.Finding) string {
	var text strings.Builder
	for _, f := range found {
		fmt.Fprintf(&text, "%s %s: %s | %s\n", f.Level, f.Check, f.Cause, f.Mend)
	}
	return text.String()
}

func TestTheDoctorFindsNothingWrongWithAWorkingSystem(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.exec("alter system set max_slot_wal_keep_size = '4GB'")
	s.exec("select pg_reload_conf()")
	tells(t, s.doctor(), "slot", app.Warning, "nobody listens", "logline serve")
	tells(t, s.doctor(), "leader", app.Warning, "nobody has led", "logline serve")
	s.serve()
	tells(t, s.doctor(), "transactions", app.Warning, "can not be looked into", "pg_read_all_stats")
	found := examine(t, s.environment(), "--database", s.db.URL)
	for _, f := range found {
		if f.Level != app.Fine {
			t.Errorf("%s %s: %s", f.Level, f.Check, f.Cause)
		}
	}
	for _, check := range []string{"environment", "host", "connection", "pooler", "server", "wal_level",
		"max_wal_senders", "replication", "max_replication_slots", "slot", "retained WAL", "max_slot_wal_keep_size",
		"transactions", "clock", "role", "ledger", "walls", "publication", "leader", "manifest", "signing key"} {
		tells(t, found, check, app.Fine)
	}
	tells(t, found, "slot", app.Fine, "in use by pid")
	tells(t, found, "leader", app.Fine, "e2e leads, by wal")
	found = s.doctor("LOGLINE_SOURCE=poll")
	tells(t, found, "replication", app.Skipped, "poll")
}

func TestTheDoctorNamesWhatIsWrongAndTheMend(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.exec("create role stranger login password 'secret-word'")
	_, host, _ := strings.Cut(s.db.SidecarURL, "@")
	stranger := "postgres://stranger:secret-word@" + host
	at := func(databaseURL string) []app.Finding { return s.doctor("DATABASE_URL=" + databaseURL) }

	found := at(stranger)
	tells(t, found, "role", app.Fault, `"stranger"`, "grant loglineos_sidecar")
	tells(t, found, "replication", app.Fault, "may not replicate", "alter role")
	found = at("postgres://loglineos_sidecar:secret-word@" + host)
	tells(t, found, "connection", app.Fault, "password", "DATABASE_URL")
	tells(t, found, "database", app.Skipped, "it can not be reached")
	base, _, _ := strings.Cut(s.db.SidecarURL, "?")
	tells(t, at(base+"_not?sslmode=disable"), "connection", app.Fault, "there is no database")
	tells(t, at(base+"?sslmode=require"), "connection", app.Fault, "encryption")
	tells(t, at("postgres://x:secret-word@no.such.host.invalid/x"), "host", app.Fault, "not known")
	tells(t, at("postgres://x:secret-word@h:notaport/x"), "environment", app.Fault, "DATABASE_URL")
	tells(t, s.doctor("OWNER_URL=postgres://x"), "environment", app.Warning, "OWNER_URL")
	tells(t, at(s.db.URL), "role", app.Warning, "logline login")
	tells(t, s.doctor("LOGLINE_WORKERS=many"), "environment", app.Fault, "LOGLINE_WORKERS")
	tells(t, s.doctor("LOGLINE_WORKERS=many"), "ledger", app.Fine) // and it looks at the rest
	tells(t, s.doctor("LOGLINE_PUBLICATION=other"), "publication", app.Fault, `"other"`, "logline migrate")
	tells(t, examine(t, s.environment("DATABASE_URL=")), "connection", app.Fault, "no database is named")

	s.exec("alter table ledger.universal_registry disable trigger universal_registry_before_change_row")
	tells(t, s.doctor(), "walls", app.Fault, "universal_registry_before_change_row")
	s.exec("alter table ledger.universal_registry enable always trigger universal_registry_before_change_row")
	program.Eventually(t, "the doctors' sessions have ended", func() bool {
		_, err := s.owner.Exec(t.Context(), "select ledger.import_begin()")
		return err == nil
	})
	tells(t, s.doctor(), "ledger", app.Fault, "import door", "import_end")
}

func TestTheDoctorKnowsAServerThatCanNotStream(t *testing.T) {
	t.Parallel()
	s := migrated(t, pgtest.NewCluster(t, map[string]string{"wal_level": "replica"}))
	found := s.doctor()
	tells(t, found, "wal_level", app.Fault, "replica", "restart")
	tells(t, found, "manifest", app.Fault, "none", "logline bootstrap")
	tells(t, found, "max_slot_wal_keep_size", app.Warning, "fill the disk")
	if err := s.cluster.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	tells(t, s.doctor(), "connection", app.Fault, "nobody listens", "start the server")
}

func TestTheDoctorKnowsSlots(t *testing.T) {
	t.Parallel()
	s := migrated(t, pgtest.NewCluster(t, map[string]string{"max_replication_slots": "2",
		"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}))
	s.bootstrap()
	s.exec("select pg_create_logical_replication_slot('one', 'pgoutput')")
	s.exec("select pg_create_logical_replication_slot('two', 'pgoutput')")
	tells(t, s.doctor(), "max_replication_slots", app.Fault, "all 2", "none is ours", "drop one")
	tells(t, s.doctor("LOGLINE_SLOT=one"), "max_replication_slots", app.Warning, "could not be made anew")
	tells(t, s.doctor("LOGLINE_SLOT=one"), "slot", app.Warning, "nobody reads it")
	tells(t, s.doctor(), "max_slot_wal_keep_size", app.Warning, "is little")
	program.Eventually(t, "the server gives the slots up", func() bool {
		s.exec("create table public.filler as select repeat('x', 500) from generate_series(1, 40000)")
		s.exec("drop table public.filler")
		s.exec("select pg_switch_wal()")
		s.exec("checkpoint")
		return one[bool](s, "select bool_and(wal_status = 'lost') from pg_replication_slots")
	})
	tells(t, s.doctor("LOGLINE_SLOT=one"), "slot", app.Warning, "is lost", "logline serve")
	tells(t, s.doctor(), "other slots", app.Warning, `"one" is lost`, "pg_drop_replication_slot")
	s.exec("select pg_drop_replication_slot('two')")
	s.exec("select pg_create_logical_replication_slot('loglineos', 'test_decoding')")
	tells(t, s.doctor(), "slot", app.Fault, "another use", "LOGLINE_SLOT")
}

func TestTheDoctorNamesOldTransactions(t *testing.T) {
	t.Parallel()
	s := setup(t)
	tells(t, s.doctor(), "transactions", app.Fine)
	conn, err := pgx.Connect(t.Context(), s.db.URL+"&application_name=forgotten")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "begin; create table public.held ()"); err != nil {
		t.Fatal(err)
	}
	tells(t, s.doctor(), "transactions", app.Fine) // it is young
	x, err := ledger.Examine(t.Context(), s.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close(context.Background())
	open, err := x.OpenTransactions(t.Context(), 0)
	if err != nil || len(open) != 1 || open[0].Name != "forgotten" || !open[0].IsWriting {
		t.Fatalf("open transactions: %+v, %v", open, err)
	}
	found := app.OldTransactions(open)
	tells(t, found, "transactions", app.Warning, "forgotten", "no slot can be made", "pg_terminate_backend")
}

func TestTheDoctorKnowsAPooler(t *testing.T) {
	t.Parallel()
	binary := program.Find(t, "pgbouncer")
	s := setup(t)
	port := startPooler(t, binary, s.db, "transaction")
	pooled := fmt.Sprintf("postgres://loglineos_sidecar@127.0.0.1:%d/%s?sslmode=disable", port, s.db.Name)
	tells(t, s.doctor("DATABASE_URL="+pooled), "pooler", app.Fault, "pooler", "direct connection")
	tells(t, s.doctor("REPLICATION_URL="+pooled), "replication", app.Fault, "direct connection")
}

// On Supabase the direct connection has an IPv6 address alone, and many machines have no route to one.
func TestTheDoctorKnowsAHostThatOnlyIPv6Reaches(t *testing.T) {
	t.Parallel()
	network := app.Network{
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("2001:db8::1")}, nil
		},
		Routes: func(address netip.Addr) bool { return address.Is4() },
	}
	for databaseURL, words := range map[string][]string{
		"postgres://postgres:secret-word@db.abc.supabase.co:5432/postgres": {"host", "IPv6", "IPv4 add-on"},
		"postgres://postgres.abc:secret-word@aws-0.pooler.supabase.com:6543/postgres": {"pooler",
			"transaction mode", "direct connection"},
		"postgres://postgres.abc:secret-word@aws-0.pooler.supabase.com:5432/postgres": {"pooler",
			"can not stream", "direct connection"},
	} {
		found := app.Doctor(t.Context(), databaseURL, nil, nil, network)
		tells(t, found, words[0], app.Fault, words[1:]...)
		if strings.Contains(listed(found), "secret-word") {
			t.Errorf("it tells the password:\n%s", listed(found))
		}
	}
}
