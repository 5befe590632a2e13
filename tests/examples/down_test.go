package examples_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// Where the database is down each script ends, says so once, and claims nothing.
func TestTheScriptsEndWhereTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	for _, call := range [][]string{{"comments"}, {"comments", "wait"}, {"orders"}, {"report"}} {
		s := &system{t: t, env: []string{"DATABASE_URL=postgres://127.0.0.1:1/none"}}
		script := filepath.Join("docs/examples", call[0], "run.sh")
		said, err := s.command(script, call[1:]...).CombinedOutput()
		if err == nil || strings.Contains(string(said), "granted") {
			t.Errorf("%s goes on without a database (%v):\n%s", strings.Join(call, " "), err, said)
		}
		if n := strings.Count(string(said), "psql: error"); n != 1 {
			t.Errorf("%s tells of the database %d times:\n%.500s", strings.Join(call, " "), n, said)
		}
	}
}
