package tail

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/span"
)

// delta is the rows that the snapshot upto sees and since does not. It never changes: rows are only
// appended, and both snapshots are texts. So it is read in pages, each a statement of its own, and no
// transaction stays open while rows are worked on.
type delta struct {
	since, upto string // pg_snapshots; since "" is the beginning
	reason      string // why the stream does not bring them, "" where polling is the way
}

// pageRows is how many rows one page has at most: 3 MB of memory.
const pageRows = 5000

const publishedList = `id, seq, entity_type, status, owner_id, tenant_id, visibility, is_deleted,
	parent_id, at, accepted_at, scheduled_at, trace_id, xact, curr_hash, prev_hash`

// A delta has two parts, each in the order of the index on xact: what was under way at since, and what began
// later. Rows of the import door are in neither: their transactions are another cluster's (epoch).
// Order inside is by transaction, not by commit (docs/contract.md §7). $1 since, $2 upto, $3 the transaction
// that is done.
const (
	openPart = `from ledger.universal_registry
		where xact = any(array(select pg_snapshot_xip($1::pg_snapshot))) and xact > $3::xid8
			and pg_visible_in_snapshot(xact, $2::pg_snapshot)`
	laterPart = `from ledger.universal_registry
		where xact > $3::xid8 and xact >= $1::xid8 and xact < pg_snapshot_xmax($2::pg_snapshot)
			and pg_visible_in_snapshot(xact, $2::pg_snapshot)`
	inOrder = ` order by xact, at, id, seq`
)

// xmaxSQL is where the second part begins, and whether since is of this state of the cluster.
const xmaxSQL = `select coalesce(pg_snapshot_xmax(nullif($1, '')::pg_snapshot)::text, '0')`

// binary asks for every column in its binary form.
var binaryForm = []int16{pgx.BinaryFormatCode}

// pages hands over a delta. Each page is a place of its own in progress, so that a long delta is taken up
// again where it stopped.
func (s *session) pages(ctx context.Context, d delta) error {
	var xmax string
	soon, cancel := context.WithTimeout(ctx, probeMax)
	err := s.reader.QueryRow(soon, xmaxSQL, d.since).Scan(&xmax)
	cancel()
	if err != nil {
		return fmt.Errorf("scan the gap: %w", err)
	}
	if d.since != "" {
		if err := s.part(ctx, d, openPart, d.since, false); err != nil {
			return err
		}
	}
	if err := s.part(ctx, d, laterPart, xmax, true); err != nil {
		return err
	}
	s.mark(d.upto)
	return nil
}

// part reads one part of a delta, page by page. Of a full page the last transaction may be cut off: it is
// left for the next one; if it is the only one, it is read by itself.
func (s *session) part(ctx context.Context, d delta, part, from string, isLater bool) error {
	upto, err := span.ParseSnapshot(d.upto)
	if err != nil {
		return fmt.Errorf("scan the gap: %w", err)
	}
	query := fmt.Sprintf("select %s %s and %s%s limit %d", publishedList, part, s.epoch.isNew(), inOrder,
		pageRows)
	for done := uint64(0); ; {
		arguments := [][]byte{[]byte(from), []byte(d.upto), fmt.Append(nil, done)}
		rows, err := s.read16(ctx, query, arguments)
		if err != nil {
			return err
		}
		isLast, last := len(rows) < pageRows, uint64(0)
		if !isLast {
			last = rows[len(rows)-1].Xact
			for len(rows) > 0 && rows[len(rows)-1].Xact == last {
				rows = rows[:len(rows)-1]
			}
		}
		if err := s.handOver(ctx, rows); err != nil {
			return err
		}
		switch {
		case isLast:
			return nil
		case len(rows) > 0:
			done = rows[len(rows)-1].Xact
		default:
			if err := s.transaction(ctx, last); err != nil {
				return err
			}
			done = last
		}
		if isLater {
			s.mark(upto.Until(done))
		}
	}
}

// transaction hands over the rows of one transaction that is larger than a page. The server sorts them once,
// in a transaction that stays open until they are read; only here does reading hold back the vacuum.
func (s *session) transaction(ctx context.Context, xact uint64) error {
	for _, statement := range []string{"begin read only", fmt.Sprintf(`declare huge no scroll cursor for
		select %s from ledger.universal_registry where xact = '%d'::xid8 and %s%s`,
		publishedList, xact, s.epoch.isNew(), inOrder)} {
		if _, err := s.reader.Exec(ctx, statement); err != nil {
			return fmt.Errorf("read transaction %d: %w", xact, err)
		}
	}
	for {
		rows, err := s.read16(ctx, fmt.Sprintf("fetch %d from huge", pageRows), nil)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		if err := s.handOver(ctx, rows); err != nil {
			return err
		}
	}
	if _, err := s.reader.Exec(ctx, "commit"); err != nil {
		return fmt.Errorf("read transaction %d: %w", xact, err)
	}
	return nil
}

// read16 runs a statement that gives the sixteen published columns.
func (s *session) read16(ctx context.Context, query string, arguments [][]byte) ([]*span.Published, error) {
	ctx, cancel := context.WithTimeout(ctx, pageMax)
	defer cancel()
	result := s.reader.PgConn().ExecParams(ctx, query, arguments, nil, nil, binaryForm)
	rows, err := s.decodePage(result)
	if _, closeErr := result.Close(); closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read a page of rows: %w", err)
	}
	return rows, nil
}

func (s *session) decodePage(result *pgconn.ResultReader) ([]*span.Published, error) {
	var rows []*span.Published
	for result.NextRow() {
		memory := new(rowMemory)
		for i, raw := range result.Values() {
			if raw == nil {
				continue
			}
			if err := columnSetters[i](memory, raw, false, s.words); err != nil {
				return nil, err
			}
		}
		rows = append(rows, &memory.row)
	}
	return rows, nil
}

// handOver hands over rows that are at one place.
func (s *session) handOver(ctx context.Context, rows []*span.Published) error {
	if len(rows) == 0 {
		return nil
	}
	position := s.progress.Begin()
	for _, row := range rows {
		if err := failpoint.Err(failpoint.GapRow); err != nil {
			return err
		}
		if err := s.give(ctx, row, position); err != nil {
			return err
		}
	}
	s.place++
	position.close(s.place)
	return nil
}

// give hands over one row, if we still lead.
func (s *session) give(ctx context.Context, row *span.Published, position *Position) error {
	if s.isLate() {
		return errLate
	}
	s.rows.Add(1)
	position.Add(1)
	if err := s.handler.Row(ctx, row, position); err != nil {
		return fmt.Errorf("hand over a row: %w", err)
	}
	return nil
}

// marksMax bounds the places that wait for what is before them.
const marksMax = 1000

// placed is a snapshot all of whose rows are handed over, and where that is in progress.
type placed struct {
	place    pglogrepl.LSN
	snapshot string
}

// mark notes that every row that snapshot sees is handed over. When they are disposed of, it is the cursor.
func (s *session) mark(snapshot string) {
	s.marksMu.Lock()
	defer s.marksMu.Unlock()
	next := placed{s.place, snapshot}
	if n := len(s.marks); n > 0 && (n == marksMax || s.marks[n-1].place == s.place) {
		s.marks[n-1] = next
		return
	}
	s.marks = append(s.marks, next)
}

// reached returns the newest mark before which everything is disposed of, and forgets those up to it.
func (s *session) reached() (snapshot string, isFound bool) {
	disposed, _ := s.progress.Disposed()
	s.marksMu.Lock()
	defer s.marksMu.Unlock()
	for len(s.marks) > 0 && s.marks[0].place <= disposed {
		snapshot, isFound = s.marks[0].snapshot, true
		s.marks = s.marks[1:]
	}
	return snapshot, isFound
}

// scan hands over a gap, and says so.
func (s *session) scan(ctx context.Context, d delta) error {
	started, before := time.Now(), s.rows.Load()
	s.phase.Store(CatchingUp)
	if err := s.pages(ctx, d); err != nil {
		return err
	}
	count := s.rows.Load() - before
	s.scanned(d.reason, count)
	failpoint.Hit(failpoint.GapDisposed)
	s.config.Log.Info("gap scanned", "reason", d.reason, "rows", count, "ms", time.Since(started).Milliseconds())
	return nil
}
