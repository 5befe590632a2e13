// Package platform is a Supabase project on this machine, for tests: a Postgres with the roles, default
// privileges and settings that a new project has (platform.sql), and before it the Data API (server.mjs), a
// PostgREST-compatible server on loopback.
//
//	p := platform.New(t)              // owned by postgres, who is no superuser
//	url := platform.DataAPI(t, p.URL) // and platform.Token(t, claims) for who asks there
//
// Each project is a server of its own, because Supabase's roles belong to the whole server. It installs no
// ledger: how that is done is what the tests are about.
package platform

import (
	"context"
	_ "embed"
	"net/url"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

//go:embed platform.sql
var roles string

// jwtSecret signs tokens as Supabase's legacy secret does.
const jwtSecret = "a secret of the tests, at least 32 bytes long"

// Project is one Postgres as a new Supabase project has it.
type Project struct {
	AdminURL string // of supabase_admin, the superuser
	URL      string // of postgres, who owns the database and is no superuser
}

// New starts one. On a plain server the superuser is postgres; here he becomes supabase_admin.
func New(t testing.TB) *Project {
	t.Helper()
	db := pgtest.NewCluster(t, nil).Empty(t)
	Run(t, Connect(t, db.URL), "create role renamer superuser login password 'renamer'")
	Run(t, Connect(t, As(t, db.URL, "renamer", "renamer")),
		"alter role postgres rename to supabase_admin; alter role supabase_admin password 'admin'")
	p := &Project{URL: As(t, db.URL, "postgres", "postgres"),
		AdminURL: As(t, db.URL, "supabase_admin", "admin")}
	Run(t, Connect(t, p.AdminURL), "drop role renamer;"+roles)
	return p
}

// As is databaseURL for another login.
func As(t testing.TB, databaseURL, login, password string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(login, password)
	return u.String()
}

// Connect opens a connection for as long as the test.
func Connect(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Run sends a text of many statements, as psql would.
func Run(t testing.TB, conn *pgx.Conn, text string) {
	t.Helper()
	if err := conn.PgConn().Exec(t.Context(), text).Close(); err != nil {
		t.Fatalf("run %.60q: %v", text, err)
	}
}

// DataAPI starts the server before a ledger and returns its address. It grants more than the migrations do,
// in a database that nobody else has: server.mjs says what.
func DataAPI(t testing.TB, databaseURL string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0) // go test is run from a checkout
	command := program.Command("node", "server.mjs")
	command.Dir = node.Folder(t, filepath.Join(filepath.Dir(file), "server.mjs"))
	command.Env = append(command.Env, "DATABASE_URL="+databaseURL, "JWT_SECRET="+jwtSecret, "LITE_TELEMETRY=0")
	if _, err := command.StdinPipe(); err != nil { // it ends when this is closed
		t.Fatal(err)
	}
	return program.Launch(t, command).URL()
}

// Token is what a client sends who is signed in, for an hour.
func Token(t testing.TB, claims map[string]any) string {
	t.Helper()
	all := jwt.MapClaims{"aud": "authenticated", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range claims {
		all[name] = value
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, all).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatalf("sign a token: %v", err)
	}
	return signed
}
