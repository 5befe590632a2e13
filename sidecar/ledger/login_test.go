package ledger

import (
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// The vector of RFC 7677, section 3, in the form of pg_authid.
func TestAVerifierIsThatOfTheStandard(t *testing.T) {
	t.Parallel()
	salt := []byte("\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" +
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if got, err := verifierOf("pencil", salt); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestALoginLogsInAndItsPasswordIsInNoLog(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, map[string]string{"log_statement": "all",
		"log_min_duration_statement": "0", "log_min_error_statement": "debug5"})
	db := cluster.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	names := map[string]string{"logline_app": "first-pa55word", "user": "third-pa55word",
		Role: "second pa$$word'\"\\%"}
	for name, password := range names {
		for range 2 { // made, and changed
			login, err := NewLogin(name, password, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.MakeLogin(t.Context(), login); err != nil {
				t.Fatal(err)
			}
		}
		u, err := url.Parse(db.URL)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(name, password)
		as := connect(t, u.String())
		var replicates, isMember bool
		err = as.QueryRow(t.Context(), `select rolreplication, pg_has_role($1, 'member')
			from pg_roles where rolname = current_user`, Role).Scan(&replicates, &isMember)
		if err != nil || !replicates || !isMember {
			t.Errorf("%s: replicates %v, is a member %v, %v", name, replicates, isMember, err)
		}
		u.User = url.UserPassword(name, password+"x")
		if wrong, err := pgx.Connect(t.Context(), u.String()); err == nil {
			t.Errorf("%s logs in with another password", name)
			_ = wrong.Close(t.Context())
		}
	}
	exec(t, conn, "select 'the log has come so far'")
	log, err := os.ReadFile(cluster.Server.LogFile())
	text := string(log)
	if err != nil || !strings.Contains(text, "so far") || !strings.Contains(text, "password 'SCRAM-SHA-256") {
		t.Fatalf("the log is not there: %v", err)
	}
	for name, password := range names {
		if strings.Contains(text, password[:12]) {
			t.Errorf("the log has the password of %s", name)
		}
	}
}

func TestALoginOfOtherLettersIsRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range [][2]string{{"a;b", "password"}, {"", "password"}, {"App", "password"}, {"app", ""},
		{"app", "pässword"}, {"app", "pass\nword"}, {strings.Repeat("a", 64), "password"}} {
		if _, err := NewLogin(bad[0], bad[1], true); !errors.Is(err, ErrLogin) {
			t.Errorf("%q with %q: %v", bad[0], bad[1], err)
		}
	}
}

func TestTheLoginOfSomebodyElseKeepsItsPassword(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	db := cluster.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	var ledgers, me string
	if err := conn.QueryRow(t.Context(), "select nspowner::regrole::text, current_user from pg_namespace where "+
		"nspname = 'ledger'").Scan(&ledgers, &me); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "create role maker createrole login")
	exec(t, conn, "create role member login")
	exec(t, conn, "grant "+ledgers+" to member")
	// A login of PostgREST, or what its clients are: with the sidecar's rights all of them would be sidecars.
	exec(t, conn, "create role gate login noinherit")
	exec(t, conn, "grant authenticated to gate")
	exec(t, conn, "create role writer login")
	exec(t, conn, "grant pg_write_all_data to writer")
	for _, name := range []string{"maker", "member", me, "gate", "writer",
		"anon", "authenticated", "service_role"} {
		login, err := NewLogin(name, "password", true)
		if err != nil {
			t.Fatal(err)
		}
		err = o.MakeLogin(t.Context(), login)
		if err == nil || !strings.Contains(err.Error(), "take another name") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
