package ledger

import (
	"context"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// plans has sessions plan their statements anew while the ledger grows. A session keeps a plan until there
// are new statistics, and those may be a minute away. In a small ledger every index costs the same, so a
// plan that was made there may read one by which ten thousand rows are looked at for each that is wanted:
// in one start of eight the last runs of a function, by their owner alone, took twelve times as long as all
// else.
type plans struct{ rows atomic.Int64 }

// smallLedger is how many rows make a difference between two indexes, even without statistics.
const smallLedger = 1000

// Grew tells that rows were committed, whoever wrote them. The first thousand, and each four times as many,
// have every session plan anew.
func (l *Ledger) Grew(rows int) { l.plans.rows.Add(int64(rows)) }

// age rises as Grew says.
func (p *plans) age() int {
	return (bits.Len64(uint64(p.rows.Load()/smallLedger)) + 1) / 2
}

const plansKey = "loglineos plans"

// prepare forgets the plans of a session that are older than the ledger's growth.
func (p *plans) prepare(ctx context.Context, conn *pgx.Conn) (bool, error) {
	age, known := p.age(), conn.PgConn().CustomData()
	if known[plansKey] == nil {
		known[plansKey] = age
	}
	if known[plansKey] == age {
		return true, nil
	}
	if _, err := conn.Exec(ctx, "discard plans"); err != nil {
		return false, fmt.Errorf("forget the plans of a smaller ledger: %w", err)
	}
	known[plansKey] = age
	return true, nil
}
