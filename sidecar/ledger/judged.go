package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// What policies need of the ledger beside the rows of the tail: their versions, up to where each lane of
// theirs has judged, and the rows that a lane which is behind has still to judge.

// policyList is selectList of what a policy's matching needs; a transaction of another server, before the
// epoch, counts as the first.
var policyList = func() string {
	names := strings.Split(selectList, ", ")
	for i, column := range span.Columns {
		switch column.Name {
		case "id", "seq", "entity_type", "who", "at", "accepted_at", "owner_id", "tenant_id", "visibility",
			"status", "is_deleted", "trace_id", "metadata":
		case "xact":
			names[i] = "case when " + isNew + " then r.xact else '0'::xid8 end"
		default:
			names[i] = "null"
		}
	}
	return strings.Join(names, ", ")
}()

// PolicyVersions returns up to limit versions of policies, after a key and in the order of keys, that may
// judge a row of the transaction horizon or of a later one: of each policy the newest before that, where it
// is active, and all later ones. They come without code and the like.
func (l *Ledger) PolicyVersions(ctx context.Context, horizon uint64, after span.Key, limit int) (
	[]*span.Span, error) {
	found, err := querySpans(ctx, l.pool, `with `+untilSQL+`
		select `+policyList+`
		from ledger.universal_registry r
		where r.entity_type = 'policy'
			and (r.id, r.seq) > ($2::text::uuid, $3::int)
			and not exists (
				select
				from ledger.universal_registry n
				where n.id = r.id and n.seq = r.seq + 1
					and (n.xact < $1::text::xid8 or not `+isNextNew+`)
			)
			and (r.status = 'active' and not r.is_deleted
				or r.xact >= $1::text::xid8 and `+isNew+`)
		order by r.id, r.seq
		limit $4`, fmt.Sprint(horizon), after.ID.String(), after.Seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read the versions of policies: %w", err)
	}
	return found, nil
}

// LoadPolicies is LoadVisible for versions of policies, without code and the like.
func (l *Ledger) LoadPolicies(ctx context.Context, keys []span.Key) (map[span.Key]*span.Span, error) {
	return l.loadVisible(ctx, keys, func(ctx context.Context, keys []span.Key) (map[span.Key]*span.Span, error) {
		return l.loadBy(ctx, "with "+untilSQL+" select "+policyList+loadSQL, keys)
	})
}

// Lane names the policies of one owner in one tenant; those of the system have an empty owner.
type Lane struct {
	Tenant string `json:"tenant"`
	Owner  string `json:"owner"`
}

// Judged is up to where policies have judged: what Snapshot sees, all have, but for those of Behind, each up
// to its own.
type Judged struct {
	Snapshot span.Snapshot
	Behind   map[Lane]span.Snapshot
}

// judgedJSON is Judged in metadata of a policy_cursor.
type judgedJSON struct {
	Snapshot string     `json:"snapshot"`
	Lanes    []laneJSON `json:"lanes,omitempty"`
}

type laneJSON struct {
	Lane
	Snapshot string `json:"snapshot"`
}

// MarshalJSON writes the form that a policy_cursor has.
func (j Judged) MarshalJSON() ([]byte, error) {
	form := judgedJSON{Snapshot: j.Snapshot.String()}
	for lane, snapshot := range j.Behind {
		form.Lanes = append(form.Lanes, laneJSON{lane, snapshot.String()})
	}
	return json.Marshal(form)
}

// UnmarshalJSON reads it.
func (j *Judged) UnmarshalJSON(raw []byte) error {
	var form judgedJSON
	err := json.Unmarshal(raw, &form)
	if err != nil {
		return fmt.Errorf("decode a policy_cursor: %w", err)
	}
	j.Behind = map[Lane]span.Snapshot{}
	if j.Snapshot, err = span.ParseSnapshot(form.Snapshot); err != nil {
		return err
	}
	for _, lane := range form.Lanes {
		if j.Behind[lane.Lane], err = span.ParseSnapshot(lane.Snapshot); err != nil {
			return err
		}
	}
	return nil
}

// PolicyCursorName is the column this of the policy_cursor that stands for all policies; those of single
// judgments have another.
const PolicyCursorName = "policies"

// LastPolicyCursor returns what the newest policy_cursor says; the zero value where there is none of this
// server. Any older one would be as true.
func (l *Ledger) LastPolicyCursor(ctx context.Context) (Judged, error) {
	judged := Judged{Behind: map[Lane]span.Snapshot{}}
	var raw []byte
	err := l.pool.QueryRow(ctx, `with `+untilSQL+`
		select r.metadata -> 'judged'
		from ledger.universal_registry r
		where r.tenant_id = 'system' and r.entity_type = 'policy_cursor' and r.this = $1
			and `+isNew+`
			and pg_snapshot_xmax((r.metadata -> 'judged' ->> 'snapshot')::pg_snapshot)
				<= pg_snapshot_xmax(pg_current_snapshot())
		order by r.at desc
		limit 1`, PolicyCursorName).Scan(&raw)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return judged, nil
	case err != nil:
		return judged, fmt.Errorf("read the newest policy_cursor: %w", err)
	}
	return judged, json.Unmarshal(raw, &judged)
}

// laneSQL makes the table of the lanes that are behind. Where it is gone, the newest policy_cursor names
// them.
const laneSQL = `create table if not exists engine.lane (
	tenant text not null,
	owner text not null,
	snapshot pg_snapshot not null,
	leader uuid not null,
	stored_at timestamptz not null default now(),
	primary key (tenant, owner)
) with (fillfactor = 50)`

// LanesBehind returns the lanes that are behind; and false where nobody knows, because the table is gone.
func (l *Ledger) LanesBehind(ctx context.Context) (map[Lane]span.Snapshot, bool, error) {
	behind := map[Lane]span.Snapshot{}
	rows, err := l.pool.Query(ctx, "select tenant, owner, snapshot::text from engine.lane")
	if err == nil {
		var lane Lane
		var text string
		_, err = pgx.ForEachRow(rows, []any{&lane.Tenant, &lane.Owner, &text}, func() error {
			snapshot, err := span.ParseSnapshot(text)
			behind[lane] = snapshot
			return err
		})
	}
	if IsEngineMissing(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the lanes that are behind: %w", err)
	}
	return behind, true, nil
}

// StoreLanes writes up to where lanes have judged that are behind. leader is the id of who says so: only he
// takes them back. Where the table was gone it is made, with all of them, and so with those of no change.
func (l *Ledger) StoreLanes(ctx context.Context, leader span.ID, changed, all map[Lane]span.Snapshot) error {
	err := l.storeLanes(ctx, leader, changed)
	if IsEngineMissing(err) {
		if err = l.MakeEngine(ctx, laneSQL); err == nil {
			err = l.storeLanes(ctx, leader, all)
		}
	}
	if err != nil {
		return fmt.Errorf("store the lanes that are behind: %w", err)
	}
	return nil
}

func (l *Ledger) storeLanes(ctx context.Context, leader span.ID, lanes map[Lane]span.Snapshot) error {
	var tenants, owners, snapshots []string
	for lane, snapshot := range lanes {
		tenants, owners = append(tenants, lane.Tenant), append(owners, lane.Owner)
		text := snapshot.String()
		if text == "" {
			text = "1:1:" // which sees nothing
		}
		snapshots = append(snapshots, text)
	}
	_, err := l.pool.Exec(ctx, `insert into engine.lane (tenant, owner, snapshot, leader)
		select t, o, s::pg_snapshot, $4::text::uuid from unnest($1::text[], $2::text[], $3::text[]) as u(t, o, s)
		order by t, o
		on conflict (tenant, owner) do update set snapshot = excluded.snapshot, leader = excluded.leader,
			stored_at = now()`, tenants, owners, snapshots, leader.String())
	return err
}

// DropLane takes a lane back that leader has said is behind.
func (l *Ledger) DropLane(ctx context.Context, leader span.ID, lane Lane) error {
	_, err := l.pool.Exec(ctx, `delete from engine.lane
		where tenant = $1 and owner = $2 and leader = $3::text::uuid`, lane.Tenant, lane.Owner, leader.String())
	if err != nil && !IsEngineMissing(err) {
		return fmt.Errorf("take a lane back: %w", err)
	}
	return nil
}

// DeltaPlace is the place of a row between two snapshots. Its zero value is before all.
type DeltaPlace struct {
	Xact uint64
	Key  span.Key
}

// DeltaPlaceOf returns the place of a row that Delta gave.
func DeltaPlaceOf(row *span.Published) DeltaPlace { return DeltaPlace{row.Xact, row.Key()} }

// deltaMax bounds one read of Delta, however much it has to walk over.
const deltaMax = time.Minute

// Delta returns up to limit rows of a tenant that from does not see and to does, after a place and of
// transactions below before, in the order of transaction, id and seq. Rows of the import door are none of
// them.
func (l *Ledger) Delta(ctx context.Context, tenant string, from, to span.Snapshot, after DeltaPlace,
	before uint64, limit int) ([]*span.Published, error) {
	ctx, cancel := context.WithTimeout(ctx, deltaMax)
	defer cancel()
	since := from.String()
	if since == "" {
		since = "1:1:"
	}
	rows, _, err := l.queryPublished(ctx, `with `+untilSQL+`
		select `+publishedList+`
		from ledger.universal_registry r
		where r.tenant_id = $1
			and `+isNew+`
			and r.xact >= greatest(pg_snapshot_xmin($2::text::pg_snapshot), $4::text::xid8)
			and r.xact < least(pg_snapshot_xmax($3::text::pg_snapshot), $8::text::xid8)
			and (r.xact, r.id, r.seq) > ($4::text::xid8, $5::text::uuid, $6::int)
			and not pg_visible_in_snapshot(r.xact, $2::text::pg_snapshot)
			and pg_visible_in_snapshot(r.xact, $3::text::pg_snapshot)
		order by r.xact, r.id, r.seq
		limit $7`, tenant, since, to.String(), fmt.Sprint(after.Xact), after.Key.ID.String(), after.Key.Seq,
		limit, fmt.Sprint(before))
	if err != nil {
		return nil, fmt.Errorf("read what a lane has still to judge: %w", err)
	}
	return rows, nil
}
