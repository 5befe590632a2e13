package pgtest

import (
	"context"
	"os"
	"testing"

	"github.com/loglineos/loglineos/sidecar/devdb"
)

// Cluster is a whole server of one test's own, on this machine: to make slots, hold transactions open,
// change settings, and kill.
type Cluster struct {
	Server *devdb.Server

	server *server
}

// NewCluster starts a server for t and stops it after t. Settings go over those of the shared server
// (wal_level=logical, fsync=off, 200 connections); nil changes none.
func NewCluster(t testing.TB, settings map[string]string) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	s, own, err := startOwn(ctx, settings, t.Logf)
	if err != nil {
		t.Fatalf("start a Postgres for this test: %v", err)
	}
	s.disposable = true
	t.Cleanup(func() {
		if err := s.stop(t.Failed() && os.Getenv("LOGLINE_KEEP_DB") != ""); err != nil {
			t.Errorf("stop the Postgres of this test: %v", err)
		}
	})
	return &Cluster{Server: own, server: s}
}

// New is pgtest.New on this cluster. Its first call migrates.
func (c *Cluster) New(t testing.TB) *Database {
	t.Helper()
	return c.server.create(t, true)
}

// Empty is pgtest.Empty on this cluster.
func (c *Cluster) Empty(t testing.TB) *Database {
	t.Helper()
	return c.server.create(t, false)
}
