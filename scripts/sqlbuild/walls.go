package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/devdb"
)

// wallsFile is what guard_check expects to stand. A Postgres says it, so that it is in Postgres's own words:
// a new ledger is made of the other sources, and asked.
const wallsFile = "sql/src/84_walls.sql"

const wallsHead = `-- 84 walls: what guard_check expects to stand, as a new ledger says it.
-- Generated from the other files by scripts/sqlbuild. Do not edit.
-- Sources: %s

create or replace function ledger_private.built_walls()
returns table (kind text, name text, stands text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    values
        %s;
end
$$;

comment on function ledger_private.built_walls() is
    'Every wall of the ledger as it was built, in the form of standing_walls. For guard_check.';
`

const wallsSQL = `
	select format('(%L, %L, %L)', kind, name, case kind when 'right' then '' else stands end)
	from ledger_private.standing_walls()
	order by kind collate "C", name collate "C"`

// walls returns the text of wallsFile: the one that is there if the other sources are still the same, else a
// new one, for which it starts a Postgres; or, in a check, an error.
func walls(root string, check bool) ([]byte, error) {
	empty := fmt.Appendf(nil, wallsHead, "none", "('', '', '')")
	body, err := join(root, empty)
	if err != nil {
		return nil, err
	}
	sources, err := forms[0].text(root, body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append(sources, wallsHead+wallsSQL...))
	key := hex.EncodeToString(sum[:])
	present, err := os.ReadFile(filepath.Join(root, wallsFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read walls: %w", err)
	}
	if strings.Count(string(present), "-- Sources: ") == 1 && strings.Contains(string(present), key) {
		return present, nil
	}
	if check {
		return nil, fmt.Errorf("%s is stale: run `go run ./scripts/sqlbuild`", wallsFile)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // it may have to fetch Postgres
	defer cancel()
	rows, err := askNewLedger(ctx, string(sources))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, wallsHead, key, strings.Join(rows, ",\n        ")), nil
}

// askNewLedger runs a form on a Postgres of its own, and returns the walls that stand there.
func askNewLedger(ctx context.Context, form string) (_ []string, err error) {
	dir, err := os.MkdirTemp("", "loglineos-sqlbuild-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // root's Postgres runs as another user
		return nil, fmt.Errorf("open directory: %w", err)
	}
	server, err := devdb.Start(ctx, devdb.Options{
		Dir: dir, Settings: map[string]string{"fsync": "off"}, DieWithParent: true,
		Log: func(message string) { fmt.Fprintln(os.Stderr, "sqlbuild:", message) },
	})
	if err != nil {
		return nil, fmt.Errorf("start a Postgres to ask for the walls: %w", err)
	}
	defer func() {
		err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)), os.RemoveAll(server.Dir))
	}()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := conn.PgConn().Exec(ctx, form).Close(); err != nil {
		return nil, fmt.Errorf("run the sources: %w", err)
	}
	rows, err := conn.Query(ctx, wallsSQL)
	if err != nil {
		return nil, fmt.Errorf("ask for the walls: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the walls: %w", err)
	}
	return found, nil
}
