package ledger

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Wall is a wall of the ledger that does not stand: a row of ledger.guard_check.
type Wall struct {
	Name    string // for example "trigger universal_registry_before_change_row"
	Problem string // what is wrong, as the rest of a sentence that begins with the name
	Mend    string // the statement that mends it; with a full stop at its end, what to do
}

// guardsSQL reads the bodies of what guard_check is made of.
const guardsSQL = `
select g.name, coalesce(replace(p.prosrc, chr(13), ''), ''), coalesce(ledger_private.version(), '')
from unnest(array[
	'ledger.guard_check()', 'ledger_private.built_walls()', 'ledger_private.standing_walls()',
	'ledger_private.fingerprints()', 'ledger_private.role_faults(oid)', 'ledger_private.way_faults(oid)'
]) as g (name)
left join pg_catalog.pg_proc as p on p.oid = to_regprocedure(g.name)`

// Walls asks ledger.guard_check which walls of the ledger do not stand; none is good. The database can not
// vouch for guard_check itself, so its functions are compared with migration, the text of the newest
// migration that this program knows, as far as it is of the ledger's version. At most limit walls are
// returned, and how many there are.
func (l *Ledger) Walls(ctx context.Context, migration string, limit int) (walls []Wall, n int, err error) {
	return fallen(ctx, l.pool, migration, limit)
}

type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func fallen(ctx context.Context, on batcher, migration string, limit int) (walls []Wall, n int, err error) {
	batch := &pgx.Batch{}
	batch.Queue(guardsSQL).Query(func(rows pgx.Rows) error {
		var name, body, version string
		_, err := pgx.ForEachRow(rows, []any{&name, &body, &version}, func() error {
			same := strings.Contains(migration, "\nreturn '"+version+"';\n")
			if same && !strings.Contains(migration, "$$"+body+"$$") {
				walls = append(walls, Wall{"function " + name, "has not the body that this sidecar knows",
					"As the owner, run this version's migration again: logline migrate --again."})
			}
			return nil
		})
		return err
	})
	batch.Queue("select wall, problem, mend from ledger.guard_check()").Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Wall])
		walls = append(walls, found...)
		return err
	})
	if err := on.SendBatch(ctx, batch).Close(); err != nil {
		return nil, 0, fmt.Errorf("check the walls of the ledger: %w", err)
	}
	return walls[:min(len(walls), limit)], len(walls), nil
}
