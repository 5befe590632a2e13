package ledger

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/loglineos/loglineos/sidecar/span"
)

// What follows the ledger from outside asks as the tail does where it polls (tail/poll.go): a place is a
// snapshot, and what comes after it is what a later snapshot sees and this one did not. So a transaction that
// began early and committed late is not missed, whatever its times and numbers say, and no row comes twice.
// Rows of the import door are behind every place, also those whose transactions are still to come here.
//
// No index has the rows of one transaction, or of one moment, in an order that a page could go on from
// (delta.go): so keys are read first, many at once, and then their rows, a page at a time.

// RowFilter chooses versions of spans. The zero value chooses all; every entry must hold.
type RowFilter struct {
	Types, Statuses []string
	Tenant          string
	Trace           string
	Owner           string
	Parent          *span.ID
	ID              *span.ID
	Since           time.Duration // its `at` is at most so long ago; 0 is whenever
}

// where is the condition on r, after args.
func (f RowFilter) where(args ...any) (string, []any) {
	conditions := []string{"true"}
	add := func(condition string, value any) {
		args = append(args, value)
		conditions = append(conditions, fmt.Sprintf(condition, len(args)))
	}
	if f.Types != nil {
		add("r.entity_type = any ($%d::text[])", f.Types)
	}
	if f.Statuses != nil {
		add("r.status = any ($%d::text[])", f.Statuses)
	}
	if f.Tenant != "" {
		add("r.tenant_id = $%d", f.Tenant)
	}
	if f.Trace != "" {
		add("r.trace_id = $%d", f.Trace)
	}
	if f.Owner != "" {
		add("r.owner_id = $%d", f.Owner)
	}
	if f.Parent != nil {
		add("r.parent_id = $%d::text::uuid", f.Parent.String())
	}
	if f.ID != nil {
		add("r.id = $%d::text::uuid", f.ID.String())
	}
	if f.Since > 0 {
		add("r.at > now() - $%d::text::interval", fmt.Sprintf("%d milliseconds", f.Since.Milliseconds()))
	}
	return strings.Join(conditions, " and "), args
}

// isToCome is whether the transaction of the row r comes after that of who wrote it here: it is another
// server's. Writers are counted around 2^32. What tells more (epoch.go) a user may not read.
const isToCome = `(r.xact::text::bigint - r.xmin::text::bigint) & 4294967295 between 1 and 2147483647`

const (
	keysMost     = 1 << 20 // keys of one transaction that one question reads, of 24 bytes each
	pageRows     = 500     // versions of one page
	pageBytes    = 4 << 20 // of text, after which a page ends
	pageRowsOnce = 32      // versions of one statement, of 1 MiB each at most: what a page may be over pageBytes
)

// Place is somewhere in the ledger: what the snapshot Seen saw is behind it. The rest is of reading on from
// there, page by page.
type Place struct {
	Seen   string
	upto   string     // the snapshot up to which is read; "": a new one is to be taken
	done   string     // the transactions up to this one are behind it
	inside *span.Key  // where set: of that transaction only what is not after this key
	isLast bool       // no key comes after those ahead
	ahead  []span.Key // whose rows come next
}

// IsBetween reports whether there is more to read at once.
func (p Place) IsBetween() bool { return p.upto != "" || len(p.ahead) > 0 }

// Recent returns the place behind which all comes that commits from now on, and before it, for After to read
// first, the newest limit versions that f chooses and the actor may read, the oldest of them first.
func (u *User) Recent(ctx context.Context, f RowFilter, limit int) (Place, error) {
	var place Place
	// One statement sees one snapshot: what it does not see, After does.
	if err := u.tx.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&place.Seen); err != nil {
		return place, fmt.Errorf("read the place: %w", err)
	}
	where, args := f.where(place.Seen)
	// As they came: a derived span has its cause's time.
	keys, _, err := u.keys(ctx, fmt.Sprintf(`select n.id, n.seq, ''
		from (
			select r.id, r.seq, r.at, r.accepted_at
			from ledger.universal_registry r
			where (pg_visible_in_snapshot(r.xact, $1::text::pg_snapshot) or `+isToCome+`) and %s
			order by r.at desc, r.id desc, r.seq desc
			limit %d
		) as n
		order by n.accepted_at, n.at, n.id, n.seq`, where, limit), args)
	place.ahead = keys
	return place, err
}

// afterSQL reads the keys of two parts, each by the index on xact: what was under way at $1, and what began
// later; up to the snapshot $2, behind the transaction $3. A small limit keeps it with that index.
const afterSQL = `select r.id, r.seq, r.xact::text
	from (
		(
			select r.id, r.seq, r.xact from ledger.universal_registry r
			where r.xact = any (array(select pg_snapshot_xip($1::text::pg_snapshot))) and r.xact > $3::text::xid8
				and r.xact >= pg_snapshot_xmin($1::text::pg_snapshot)
				and r.xact < pg_snapshot_xmax($1::text::pg_snapshot)
				and pg_visible_in_snapshot(r.xact, $2::text::pg_snapshot) and not ` + isToCome + ` and %[1]s
			order by r.xact, r.id, r.seq
			limit %[2]d
		)
		union all
		(
			select r.id, r.seq, r.xact from ledger.universal_registry r
			where r.xact >= pg_snapshot_xmax($1::text::pg_snapshot) and r.xact > $3::text::xid8
				and r.xact < pg_snapshot_xmax($2::text::pg_snapshot)
				and pg_visible_in_snapshot(r.xact, $2::text::pg_snapshot) and not ` + isToCome + ` and %[1]s
			order by r.xact, r.id, r.seq
			limit %[2]d
		)
	) as r
	order by r.xact, r.id, r.seq
	limit %[2]d`

// restSQL reads the keys of the transaction $1 behind the version ($2, $3).
const restSQL = `select r.id, r.seq, '' from ledger.universal_registry r
	where r.xact = $1::text::xid8 and (r.id, r.seq) > ($2::text::uuid, $3) and not ` + isToCome + ` and %s
	order by r.id, r.seq
	limit %d`

// After returns the next page behind place of what f chooses and the actor may read, in the order of the
// transactions, and the place behind it. It is to be called again at once where that place IsBetween.
func (u *User) After(ctx context.Context, f RowFilter, place Place) ([]*span.Span, Place, error) {
	if len(place.ahead) == 0 {
		if err := u.lookAhead(ctx, f, &place); err != nil {
			return nil, place, err
		}
	}
	spans, read, err := u.page(ctx, place.ahead)
	if err != nil {
		return nil, place, err
	}
	place.ahead = place.ahead[read:]
	if len(place.ahead) == 0 && place.isLast {
		place = Place{Seen: place.upto}
	}
	return spans, place, nil
}

// lookAhead reads the keys behind place: a page of them, and all of the transaction that it ends in.
func (u *User) lookAhead(ctx context.Context, f RowFilter, place *Place) error {
	if place.upto == "" {
		if err := u.tx.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&place.upto); err != nil {
			return fmt.Errorf("read the place: %w", err)
		}
		place.done = "0"
	}
	if place.inside == nil {
		where, args := f.where(place.Seen, place.upto, place.done)
		keys, xact, err := u.keys(ctx, fmt.Sprintf(afterSQL, where, pageRows), args)
		if err != nil {
			return err
		}
		place.ahead = keys
		if place.isLast = len(keys) < pageRows; place.isLast {
			return nil
		}
		place.done, place.inside = xact, &keys[len(keys)-1]
	}
	where, args := f.where(place.done, place.inside.ID.String(), place.inside.Seq)
	keys, _, err := u.keys(ctx, fmt.Sprintf(restSQL, where, keysMost), args)
	if err != nil {
		return err
	}
	place.ahead, place.inside = append(place.ahead, keys...), nil
	if len(keys) == keysMost {
		place.inside = &keys[keysMost-1]
	}
	return nil
}

// keys runs a select of id, seq and a text, of which it returns the last.
func (u *User) keys(ctx context.Context, sql string, args []any) (keys []span.Key, last string, err error) {
	rows, err := u.tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, "", fmt.Errorf("read keys: %w", err)
	}
	var key span.Key
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&key.ID), &key.Seq, &last}, func() error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("read keys: %w", err)
	}
	return keys, last, nil
}

const pageSQL = ` from unnest($1::uuid[], $2::int4[]) with ordinality as k(id, seq, n)
	join ledger.universal_registry r on r.id = k.id and r.seq = k.seq
	order by k.n`

// page reads the versions of the first keys, in their order: as many as a page may have. It returns how many
// keys those were.
func (u *User) page(ctx context.Context, keys []span.Key) (spans []*span.Span, read int, err error) {
	for bytes := 0; read < len(keys) && read < pageRows && bytes < pageBytes; {
		next := keys[read:min(read+pageRowsOnce, len(keys), pageRows)]
		ids, seqs := make([]pgtype.UUID, len(next)), make([]int32, len(next))
		for i, key := range next {
			ids[i], seqs[i] = pgtype.UUID{Bytes: key.ID, Valid: true}, int32(key.Seq)
		}
		err := eachSpan(ctx, u.tx, func(s *span.Span, size int) error {
			bytes += size
			spans = append(spans, s)
			return nil
		}, "select "+selectList+pageSQL, ids, seqs)
		if err != nil {
			return nil, 0, err
		}
		read += len(next)
	}
	return spans, read, nil
}

// pastAhead is how many keys Past reads at once.
const pastAhead = 50_000

// Past is somewhere in the order of the times of spans. Its zero value is before all of them.
type Past struct {
	at     string
	last   span.Key
	ahead  []span.Key
	isLast bool
}

// IsOver reports whether nothing is left.
func (p Past) IsOver() bool { return p.isLast && len(p.ahead) == 0 }

// Past returns the next page of the versions that f chooses and the actor may read, the oldest first by
// their time, and the place behind it.
func (u *User) Past(ctx context.Context, f RowFilter, place Past) ([]*span.Span, Past, error) {
	if len(place.ahead) == 0 {
		if place.at == "" {
			place.at = "-infinity"
		}
		where, args := f.where(place.at, place.last.ID.String(), place.last.Seq)
		keys, at, err := u.keys(ctx, fmt.Sprintf(`select r.id, r.seq, r.at::text from ledger.universal_registry r
			where (r.at, r.id, r.seq) > ($1::text::timestamptz, $2::text::uuid, $3) and %s
			order by r.at, r.id, r.seq limit %d`, where, pastAhead), args)
		if err != nil {
			return nil, place, err
		}
		place.ahead, place.isLast = keys, len(keys) < pastAhead
		if len(keys) > 0 {
			place.at, place.last = at, keys[len(keys)-1]
		}
	}
	spans, read, err := u.page(ctx, place.ahead)
	if err != nil {
		return nil, place, err
	}
	place.ahead = place.ahead[read:]
	return spans, place, nil
}
