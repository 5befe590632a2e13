package e2e_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// What login prints is enough to connect, made or pasted, and a password that was given is never printed.
func TestLoglineLoginMakesALoginOnceAndPrintsItsOwnPasswordAlone(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	s := &system{t: t, cluster: cluster, db: cluster.New(t)}
	s.owner = s.open(s.db.URL)
	type made struct {
		Name       string
		Statements []string
		Password   string
		URL        string `json:"database_url"`
	}
	logs := func(args ...string) (m made) {
		out, _ := s.logline(0, append([]string{"login", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return m
	}
	connects := func(with string) bool {
		conn, err := pgx.Connect(t.Context(), with)
		if err == nil {
			err = conn.Close(t.Context())
		}
		return err == nil
	}
	first := logs()
	if !connects(first.URL) {
		t.Fatalf("%+v does not connect", first)
	}
	// What the URL says of the owner behind the question mark goes before what it says in front.
	u, err := url.Parse(s.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	u.RawQuery = url.Values{"user": {u.User.Username()}, "password": {password}}.Encode() + "&connect_timeout=9"
	if other := logs("--name", "asked", "--database", u.String()); !connects(other.URL) ||
		!strings.HasSuffix(other.URL, "?connect_timeout=9") || !strings.Contains(other.URL, "//asked:") {
		t.Errorf("of the login asked it prints %s", other.URL)
	}
	pasted := logs("--print", "--no-replication", "--name", "other")
	s.exec(strings.Join(pasted.Statements, ";"))
	if pasted.URL != "" || !connects(s.urlOf("other", pasted.Password)) ||
		strings.Contains(strings.Join(pasted.Statements, ";"), pasted.Password) {
		t.Errorf("pasted: %+v", pasted)
	}
	if !one[bool](s, "select not rolreplication from pg_roles where rolname = 'other'") {
		t.Error("--no-replication lets it replicate")
	}
	if logs(); connects(first.URL) {
		t.Error("the former password still holds")
	}
	p := program.Start(t, []string{"DATABASE_URL=" + s.db.URL, "LOGLINE_PASSWORD=given-by-me"}, "login")
	if p.Wait() != 0 || p.Out.String() != "logline_app may log in and replicate\n" {
		t.Errorf("a given password: %d, %q, %q", p.Code(), p.Out.String(), p.Err.String())
	}
	// What is pasted holds no password, also none that was made.
	statements, said := s.logline(0, "login", "--print")
	password = strings.TrimSpace(said[strings.LastIndex(said, ": ")+2:])
	if len(password) != 48 || strings.Contains(statements, password) ||
		!strings.Contains(statements, "SCRAM-SHA-256") {
		t.Errorf("--print prints %q, and says %q", statements, said)
	}
	for _, wrong := range []string{"--name A", "--name a;b", "--name=", "x"} {
		s.logline(2, append([]string{"login"}, strings.Fields(wrong)...)...)
	}
}
