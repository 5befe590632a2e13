package pgtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/program"
)

// debian is where Debian keeps each version of Postgres. One from elsewhere has no more than came with it.
const debian = "/usr/lib/postgresql/"

// about is what a server says of itself.
type about struct{ major, folder string }

func ask(t testing.TB, databaseURL, query string, arguments ...any) (answer []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, query, arguments...)
	if err == nil {
		answer, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

func aboutServer(t testing.TB, databaseURL string) about {
	t.Helper()
	answer := ask(t, databaseURL, `select current_setting('server_version_num')::int / 10000 || ''
		union all select (select setting from pg_config where name = 'BINDIR')`)
	return about{answer[0], answer[1]}
}

// lacking ends t: as program.Lacking says where the server is Debian's, on this machine; else it is skipped.
func (a about) lacking(t testing.TB, what, debianPackage string) {
	t.Helper()
	if strings.HasPrefix(a.folder, debian) && os.Getenv("TEST_DATABASE_URL") == "" {
		program.Lacking(t, what, debianPackage)
	}
	t.Skipf("%s is missing: this Postgres is not Debian's of this machine, whose %s has it", what, debianPackage)
}

// Tool is a program of the server's own version, such as pg_dump, which refuses a newer server.
func Tool(t testing.TB, databaseURL, name string) string {
	t.Helper()
	server := aboutServer(t, databaseURL)
	installed := debian + server.major + "/bin/" + name
	for _, path := range []string{filepath.Join(server.folder, name), installed, name} {
		found, err := exec.LookPath(path)
		if err != nil {
			continue
		}
		out, err := exec.Command(found, "--version").Output()
		if err == nil && strings.Contains(string(out), ") "+server.major+".") {
			return found
		}
	}
	server.lacking(t, name+" of Postgres "+server.major, "postgresql-client-"+server.major)
	return ""
}

// NeedExtension ends t where the server has not got an extension.
func NeedExtension(t testing.TB, databaseURL, name string) {
	t.Helper()
	if len(ask(t, databaseURL, "select name::text from pg_available_extensions where name = $1", name)) > 0 {
		return
	}
	server := aboutServer(t, databaseURL)
	server.lacking(t, "the extension "+name, "postgresql-"+server.major+"-"+strings.ReplaceAll(name, "_", "-"))
}
