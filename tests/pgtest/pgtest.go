// Package pgtest gives every test that needs Postgres a database of its own on a real server.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
//
//	func TestX(t *testing.T) {
//		t.Parallel()
//		db := pgtest.New(t) // migrated, empty, dropped at the end
//		conn, err := pgx.Connect(t.Context(), db.URL)
//
// There is one server for each test binary, started at the first use: the one of TEST_DATABASE_URL (its
// superuser), else a container where Docker answers, else package devdb. New clones a template that is
// migrated once for each server. A test that makes replication slots, holds transactions open or kills
// the server takes NewCluster: slots and old snapshots would hold up the others.
//
// The server ends with the test binary, however that ends: at a return of Run; on Linux by the kernel's
// signal after a SIGKILL, and the next run removes the files; a container by its own hour.
// LOGLINE_KEEP_DB=1 keeps what a failed test used, and says where.
//
// It refuses a database that is not for tests by reading no other variable than TEST_DATABASE_URL.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	startTimeout = 5 * time.Minute // a first run may have to install Postgres
	dropTimeout  = 30 * time.Second
	namePrefix   = "logline_test_"
	sidecarRole  = "loglineos_sidecar"
)

// Database is one test's own database.
type Database struct {
	Name       string
	URL        string // as superuser
	SidecarURL string // as loglineos_sidecar, which may log in and replicate; its role is there once migrated

	server *server
}

// holder owns the one server of a test binary.
type holder struct {
	mutex  sync.Mutex
	run    bool
	server *server
	err    error
}

var shared holder

// Run runs the tests and then stops the server, if one of them started it. It returns the exit code.
func Run(m *testing.M) int {
	shared.mutex.Lock()
	shared.run = true
	shared.mutex.Unlock()
	defer shared.stop()
	return m.Run()
}

// New returns a database of t's own with all migrations applied, and drops it after t.
func New(t testing.TB) *Database {
	t.Helper()
	return shared.get(t).create(t, true)
}

// Empty returns a database of t's own with nothing in it, and drops it after t. Roles belong to the whole
// server: migrate it by Migrate, or tests that run at the same time get in each other's way.
func Empty(t testing.TB) *Database {
	t.Helper()
	return shared.get(t).create(t, false)
}

// Migrate applies all migrations to an empty database and lets the sidecar's role log in.
func (d *Database) Migrate(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	err := d.server.locked(ctx, func(*pgx.Conn) error { return d.server.migrate(ctx, d.Name) })
	if err != nil {
		t.Fatalf("migrate %s: %v", d.Name, err)
	}
}

func (h *holder) get(t testing.TB) *server {
	t.Helper()
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if !h.run {
		t.Fatal("pgtest needs this in the package: func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }")
	}
	if h.server == nil && h.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		h.server, h.err = choose(ctx, t.Logf)
	}
	if h.err != nil {
		t.Fatalf("start a Postgres for tests: %v", h.err)
	}
	return h.server
}

func (h *holder) stop() {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.server == nil {
		return
	}
	if err := h.server.stop(h.server.kept.Load()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: stop Postgres:", err)
	}
	h.server = nil
}

// create makes a database, and undoes that after the test.
func (s *server) create(t testing.TB, migrated bool) *Database {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	name := namePrefix + strings.ToLower(rand.Text()[:12])
	statement := "create database " + name
	if migrated {
		template, err := s.template(ctx)
		if err != nil {
			t.Fatalf("make migrated template: %v", err)
		}
		statement += " template " + template + s.cloning
	}
	if err := s.admin(ctx, statement); err != nil {
		t.Fatalf("create database for test: %v", err)
	}
	d := &Database{Name: name, URL: s.url(nil, name), server: s}
	d.SidecarURL = s.url(url.UserPassword(sidecarRole, s.sidecarPassword()), name)
	t.Cleanup(func() { d.drop(t) })
	return d
}

func (d *Database) drop(t testing.TB) {
	if t.Failed() && os.Getenv("LOGLINE_KEEP_DB") != "" {
		d.server.kept.Store(true)
		t.Logf("kept for you: psql %q", d.URL)
		return
	}
	if d.server.disposable {
		return // it goes with its cluster, which may be dead already
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	// A slot in use would hold up even a forced drop; the drop removes the slot itself.
	free := "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots" +
		" where active and database = '" + d.Name + "'"
	if err := d.server.admin(ctx, free, "drop database "+d.Name+" with (force)"); err != nil {
		t.Errorf("drop database of test: %v", err)
	}
}

// Dir is a folder of t's own that Postgres may enter, unlike that of T.TempDir: it runs as another user where
// the test runs as root.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "loglineos-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatalf("make a folder for test: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the folder of test: %v", err)
		}
	})
	return dir
}
