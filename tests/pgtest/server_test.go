package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Not parallel: it changes TMPDIR.
func TestSweepsOnlyTheDead(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	alive, release, err := makeDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
	dead, die, err := makeDir()
	if err != nil {
		t.Fatal(err)
	}
	kept, leave, err := makeDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kept, "keep"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(die(), leave()); err != nil { // the kernel lets go of a lock at a process's end
		t.Fatal(err)
	}
	young, err := os.MkdirTemp("", dirPrefix) // about to get its lock
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	anHourAgo := time.Now().Add(-61 * time.Minute)
	if err := os.Chtimes(old, anHourAgo, anHourAgo); err != nil {
		t.Fatal(err)
	}
	sweepDirs()
	for dir, wanted := range map[string]bool{alive: true, dead: false, kept: true, young: true, old: false} {
		if _, err := os.Stat(dir); (err == nil) != wanted {
			t.Errorf("%s: there is %v, wanted %v", dir, err == nil, wanted)
		}
	}
}

// Not parallel: it changes the environment.
func TestAbsentDockerCostsNoTime(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	before := time.Now()
	if _, err := startContainer(t.Context()); !errors.Is(err, errNoDocker) {
		t.Fatalf("got %v", err)
	}
	if spent := time.Since(before); spent > 2*pingTimeout {
		t.Fatalf("asking took %s", spent)
	}
}

func TestRefusesOtherURLs(t *testing.T) {
	t.Parallel()
	for _, given := range []string{"host=localhost user=postgres", "mysql://localhost/x", "postgres://%zz"} {
		if _, err := newServer(given); err == nil {
			t.Errorf("%s passed", given)
		}
	}
	s, err := newServer("postgresql://u:p@h:1/?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.url(nil, "d"); got != "postgresql://u:p@h:1/d?sslmode=disable" {
		t.Error(got)
	}
}

func TestSaysWhereAMigrationBreaks(t *testing.T) {
	t.Parallel()
	text := "select 1;\nselect é;\n"
	position := int32(len("begin;\nselect 1;\nselect ") + 1)
	err := withLine(&pgconn.PgError{Message: "no column é", Position: position}, text)
	if !strings.HasPrefix(err.Error(), "line 2: ") {
		t.Fatal(err)
	}
}
