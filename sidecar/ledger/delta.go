package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// No index has the rows of one transaction in an order that a page could go on from: each page of a large
// one walks over all of it. So its keys are read at once, and its rows by them.

// KeysAfter returns up to limit keys of what a transaction has appended in a tenant, after a key and in the
// order of keys.
func (l *Ledger) KeysAfter(ctx context.Context, tenant string, xact uint64, after span.Key, limit int) (
	[]span.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, deltaMax)
	defer cancel()
	rows, err := l.pool.Query(ctx, `with `+untilSQL+`
		select r.id, r.seq
		from ledger.universal_registry r
		where r.xact = $2::text::xid8 and r.tenant_id = $1 and `+isNew+`
			and (r.id, r.seq) > ($3::text::uuid, $4::int)
		order by r.id, r.seq
		limit $5`, tenant, fmt.Sprint(xact), after.ID.String(), after.Seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read the keys of a large transaction: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key span.Key, err error) {
		return key, row.Scan((*[16]byte)(&key.ID), &key.Seq)
	})
	if err != nil {
		return nil, fmt.Errorf("read the keys of a large transaction: %w", err)
	}
	return keys, nil
}

// Published returns what the publication carries of these versions, in the order of keys.
func (l *Ledger) Published(ctx context.Context, keys []span.Key) ([]*span.Published, error) {
	ids, seqs := make([]string, len(keys)), make([]int, len(keys))
	for i, key := range keys {
		ids[i], seqs[i] = key.ID.String(), key.Seq
	}
	rows, _, err := l.queryPublished(ctx, `select `+publishedList+`
		from unnest($1::text[], $2::int[]) as k(id, seq)
		join ledger.universal_registry r on r.id = k.id::uuid and r.seq = k.seq
		order by r.id, r.seq`, ids, seqs)
	if err != nil {
		return nil, fmt.Errorf("read rows by their keys: %w", err)
	}
	return rows, nil
}
