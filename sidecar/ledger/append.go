package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Group is what one cause writes, all or nothing.
//
// Fence, where there is one, is the span whose primary key decides: if somebody else holds that key, nothing
// of the group is written (docs/decisions.md). It is a request's next version, or the first of what a policy
// emits for a span. Rows are first versions with derived ids, or later ones, whose PrevHash is set; a row
// that exists already stays as it is. But where a policy's fence is won and a version, or a bucket, of its
// group is lost to another writer, nothing of the group is written.
type Group struct {
	Fence *span.Span
	Rows  []*span.Span
	// Again is set where a time-driven policy asks to judge its tick once more. The ledger passes it over.
	Again bool
	// Parts are what each policy emits for one cause, each with a fence and a fate of its own: the engine
	// appends them one by one. The ledger passes them over.
	Parts []Group
}

// Sealer hashes a span and, where there is a key, signs it: sign.Signer.Seal, or (*span.Span).Seal.
type Sealer func(row *span.Span, prevHash *string) error

// Seal seals every span of the group. The fence's PrevHash must be set.
func (g Group) Seal(seal Sealer) error {
	if g.Fence != nil {
		if err := seal(g.Fence, g.Fence.PrevHash); err != nil {
			return fmt.Errorf("hash version %d of %s: %w", g.Fence.Seq, g.Fence.ID, err)
		}
	}
	for _, row := range g.Rows {
		err := seal(row, row.PrevHash)
		if err != nil && row.Seq > 0 && row.PrevHash == nil {
			// It carries on what a client wrote that cannot be hashed, and was not.
			row.CurrHash, row.Signature, row.PublicKey, row.SigAlg, row.SigKeyID = nil, nil, nil, nil, nil
			err = nil
		}
		if err != nil {
			return fmt.Errorf("hash %s %s: %w", row.EntityType, row.ID, err)
		}
	}
	return nil
}

// Outcome says what became of a group.
type Outcome struct {
	// Won is true when the fence was written, or the group has none.
	Won bool
	// Existing lists rows that were there before, by place in Rows.
	Existing []int
	// WasThere is set by a caller that finds the fence of a policy's group standing, from an earlier judgment.
	WasThere bool
	// Err is the database's refusal of this very group; nothing of it is written.
	Err error
}

// Append writes groups in one statement and one commit. Rows are sorted by key, because two
// batches that share keys in different order deadlock. No two groups of a call may share a fence.
//
// Where the database refuses a row, the batch is halved until the faulty group stands alone and
// ends with Outcome.Err; the others are written. An error of Append itself means that the outcome
// is unknown (connection, shutdown, timeout): calling it again with the same groups is safe.
// Inserted spans get their AcceptedAt.
//
// Where the groups are nothing but new requests, the commit does not wait for the disk. A crash of the
// server may then take them back, and they come again, the same: the cursor, and every result, is committed
// after them and waits, so the row that caused them is read once more.
func (l *Ledger) Append(ctx context.Context, groups []Group) ([]Outcome, error) {
	outcomes, err := l.appendOnce(ctx, groups)
	if err == nil {
		return outcomes, nil
	}
	if !IsRefusal(err) {
		return nil, err
	}
	if len(groups) == 1 {
		return []Outcome{{Err: err}}, nil
	}
	half := len(groups) / 2
	first, err := l.Append(ctx, groups[:half])
	if err != nil {
		return nil, err
	}
	second, err := l.Append(ctx, groups[half:])
	if err != nil {
		return nil, err
	}
	return append(first, second...), nil
}

// IsRefusal reports whether err is the server's verdict on the statement or its data, as opposed to
// a fault on the way. Class 22 is bad data, 23 a constraint, 25006 a write in a read-only
// transaction, 42 rights and syntax, 54 a size limit, LL the ledger's own.
func IsRefusal(err error) bool {
	var verdict *pgconn.PgError
	if !errors.As(err, &verdict) {
		return false
	}
	if verdict.Code == "25006" {
		return true
	}
	switch verdict.Code[:2] {
	case "22", "23", "42", "54", "LL":
		return true
	}
	return false
}

// IsHeldUp reports whether err says that a row waited too long for somebody else's transaction: for its key,
// in a circle, or for as long as a statement may take. Nothing of the statement was written. A lock on the
// whole table is something else: every row waits for that, and the server names no place of one.
func IsHeldUp(err error) bool {
	var verdict *pgconn.PgError
	return errors.As(err, &verdict) && (verdict.Code == "55P03" && verdict.Where != "" ||
		verdict.Code == "40P01" || verdict.Code == "57014")
}

func appendOn(ctx context.Context, q querier, groups []Group) ([]Outcome, error) {
	batch := newBatch(groups)
	if batch.len() == 0 {
		outcomes := make([]Outcome, len(groups))
		for i := range outcomes {
			outcomes[i].Won = true
		}
		return outcomes, nil
	}
	statement, args := batch.statement()
	rows, err := q.Query(ctx, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("append %d spans: %w", batch.len(), err)
	}
	defer rows.Close()
	inserted := make(map[span.Key]string, batch.len())
	for rows.Next() {
		var id, acceptedAt string
		var seq int
		if err := rows.Scan(&id, &seq, &acceptedAt); err != nil {
			return nil, fmt.Errorf("read an appended key: %w", err)
		}
		inserted[span.Key{ID: span.MustID(id), Seq: seq}] = acceptedAt
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("append %d spans: %w", batch.len(), err)
	}
	return outcomesOf(groups, inserted)
}

func outcomesOf(groups []Group, inserted map[span.Key]string) ([]Outcome, error) {
	accept := func(s *span.Span) (bool, error) {
		text, ok := inserted[s.Key()]
		if !ok {
			return false, nil
		}
		// Where two groups have a row of this key, the first one's was written.
		delete(inserted, s.Key())
		at, err := span.ParseTime(text)
		s.AcceptedAt = &at
		return true, err
	}
	outcomes := make([]Outcome, len(groups))
	for i, group := range groups {
		outcomes[i].Won = true
		if group.Fence != nil {
			won, err := accept(group.Fence)
			if err != nil {
				return nil, err
			}
			outcomes[i].Won = won
		}
		for j, row := range group.Rows {
			found, err := accept(row)
			if err != nil {
				return nil, err
			}
			if !found && outcomes[i].Won {
				outcomes[i].Existing = append(outcomes[i].Existing, j)
			}
		}
	}
	return outcomes, nil
}

// batch is the rows of some groups: first what depends on nothing, fences and the rows of groups without one,
// and then what a fence decides. So a key has one place, whether it is a fence here and a lone row elsewhere.
type batch struct {
	first, rest part
	isRelaxed   bool // new requests alone
}

// part is rows in key order, with the columns that one of them states, and the usual ones: the fewer sets of
// columns there are, the fewer statements are prepared.
type part struct {
	rows    []batchRow
	columns []span.Column
}

type batchRow struct {
	span  *span.Span
	fence *span.Span // that decides about it; none in first
}

const usualColumns = " id seq entity_type who did this at parent_id trace_id owner_id tenant_id visibility " +
	"status is_deleted attempt duration_ms prev_hash curr_hash metadata "

func newBatch(groups []Group) *batch {
	b := &batch{isRelaxed: true}
	for _, group := range groups {
		into := &b.first
		if group.Fence != nil {
			b.isRelaxed = false
			b.first.rows = append(b.first.rows, batchRow{span: group.Fence})
			into = &b.rest
		}
		for _, row := range group.Rows {
			into.rows = append(into.rows, batchRow{row, group.Fence})
			b.isRelaxed = b.isRelaxed && row.EntityType == "request"
		}
	}
	b.first.prepare()
	b.rest.prepare()
	return b
}

func (b *batch) len() int { return len(b.first.rows) + len(b.rest.rows) }

func (p *part) prepare() {
	slices.SortStableFunc(p.rows, func(x, y batchRow) int {
		return cmp.Or(slices.Compare(x.span.ID[:], y.span.ID[:]), cmp.Compare(x.span.Seq, y.span.Seq))
	})
	if failpoint.Disabled(failpoint.Sorted) {
		rand.Shuffle(len(p.rows), func(i, j int) { p.rows[i], p.rows[j] = p.rows[j], p.rows[i] })
	}
	for _, column := range span.Columns {
		if column.Name == "xact" || column.Name == "accepted_at" {
			continue
		}
		isUsual := strings.Contains(usualColumns, " "+column.Name+" ")
		if isUsual || slices.ContainsFunc(p.rows, func(r batchRow) bool {
			_, ok := column.Text(r.span)
			return ok
		}) {
			p.columns = append(p.columns, column)
		}
	}
}

// arguments returns one text array per column.
func (p *part) arguments() []any {
	args := make([]any, len(p.columns))
	for i, column := range p.columns {
		values := make([]*string, len(p.rows))
		for j, row := range p.rows {
			if text, ok := column.Text(row.span); ok {
				values[j] = &text
			}
		}
		args[i] = values
	}
	return args
}

// insert writes the insert of a part whose first argument has the number from. There is no order by: a
// function is read in the order of its arrays, and to sort rows as wide as these costs as much as to read
// them.
func (p *part) insert(from int, fences, where string) string {
	var names, casts, aliases, arrays strings.Builder
	for i, column := range p.columns {
		if i > 0 {
			names.WriteString(", ")
			casts.WriteString(", ")
			aliases.WriteString(", ")
			arrays.WriteString(", ")
		}
		names.WriteString(column.Name)
		fmt.Fprintf(&casts, "i.c%d::%s", i, column.Type)
		fmt.Fprintf(&aliases, "c%d", i)
		fmt.Fprintf(&arrays, "$%d::text[]", from+i)
	}
	if fences != "" {
		arrays.WriteString(", " + fences)
		aliases.WriteString(", fence_id, fence_seq")
	}
	return `insert into ledger.universal_registry (` + names.String() + `)
	select ` + casts.String() + `
	from unnest(` + arrays.String() + `) as i(` + aliases.String() + `)` + where + `
	on conflict (id, seq) do nothing
	returning id, seq, accepted_at`
}

// statement returns the one statement and its arguments. It depends only on the sets of columns, so the
// driver's statement cache serves it.
func (b *batch) statement() (string, []any) {
	const read = "select id::text, seq, accepted_at::text from "
	if b.isRelaxed { // read at the commit, so it may be set by the statement that is committed
		return `with relaxed as materialized (
	select set_config('synchronous_commit', 'off', true) as is_set
), first as (
	` + b.first.insert(1, "", "") + `
)
` + read + "first where (select r.is_set from relaxed r) = 'off'", b.first.arguments()
	}
	args := b.first.arguments()
	statement := "with first as (\n\t" + b.first.insert(1, "", "") + "\n)"
	if len(b.rest.rows) == 0 {
		return statement + "\n" + read + "first", args
	}
	from := len(args) + 1
	args = append(args, b.rest.arguments()...)
	ids, seqs := make([]pgtype.UUID, len(b.rest.rows)), make([]int32, len(b.rest.rows))
	for i, row := range b.rest.rows {
		ids[i], seqs[i] = pgtype.UUID{Bytes: row.fence.ID, Valid: true}, int32(row.fence.Seq)
	}
	args = append(args, ids, seqs)
	fences := fmt.Sprintf("$%d::uuid[], $%d::int4[]", len(args)-1, len(args))
	// Behind coalesce this is asked of row after row. Alone it would be a join, which gives them in any order.
	where := "\n\twhere coalesce((i.fence_id, i.fence_seq) in (select f.id, f.seq from first f), false)"
	if failpoint.Disabled(failpoint.Fence) {
		where = ""
	}
	statement += ", rest as (\n\t" + b.rest.insert(from, fences, where) + "\n)"
	return statement + "\n" + read + "first\nunion all\n" + read + "rest", args
}
