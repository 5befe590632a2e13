package ledger

import "strings"

// What came in through the import door (sql/src/80_import.sql) is not routed. Two things tell it: it was
// accepted before the time that the newest epoch names; and it is not of a transaction of this server after
// the epoch's. Neither alone is enough. The server's clock may step back behind what was imported, and then
// new rows look old. The transactions of imported rows are another server's, often far ahead of this one's;
// but who wrote the row here (xmin, of which rows in a subtransaction have their own) tells. Writers are
// counted around 2^32, which is why their difference is taken so.
const (
	untilSQL = `until as materialized (
		select coalesce(e.until, '-infinity') as at,
			coalesce(e.xact, '0') as xact, coalesce(e.writer, 0) as writer
		from (select) here
		left join (
			select (metadata ->> 'accepted_until')::timestamptz as until, xact, xmin::text::bigint as writer
			from ledger.universal_registry
			where tenant_id = 'system' and entity_type = 'epoch'
			order by 1 desc
			limit 1
		) e on true
	)`
	// isNew is whether the row r did not come in through the import door; in a statement with untilSQL.
	isNew = `(r.accepted_at > (select u.at from until u) or r.xact > (select u.xact from until u)
		and (r.xmin::text::bigint - (select u.writer from until u)) & 4294967295 between 1 and 2147483647)`
)

// isNextNew is isNew of the row n.
var isNextNew = strings.ReplaceAll(isNew, "r.", "n.")
