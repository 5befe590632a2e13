package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Publication says what Publish did with one span.
type Publication struct {
	Span    *span.Span // as it stands in the ledger now
	Before  *span.Span // the newest version before; nil where there was none
	Wanted  *span.Span // what was asked for
	Changed bool       // a version was appended
	Kept    bool       // it differs, and stays: a governor wrote the version that stands
	Why     error      // why it stays, where that is another reason
}

// Publish brings system spans (kernels, the manifest) to the wanted content: a span that is missing
// becomes seq 0, one that differs becomes the next version, hashed and chained. One that is equal stays, and
// so does one whose newest version somebody else wrote: a governor's word outlasts an upgrade. Seq and
// hashes of want are set here. Two at a time are safe: the second meets the primary key and reports it.
func (o *Owner) Publish(ctx context.Context, want []*span.Span) ([]Publication, error) {
	return o.PublishSealed(ctx, want, Rules{Seal: (*span.Span).Seal})
}

// Rules are what PublishSealed goes by. Those that are nil say nothing.
type Rules struct {
	Seal Sealer // may sign
	// Stands says no to a version of equal content whose signature is missing or does not count: it gets a next
	// version.
	Stands func(*span.Span) bool
	// Foreign says of a span's versions, the newest first, why the newest is another's though it has the same
	// who; nil where it is not.
	Foreign func(versions []*span.Span) error
	// Over says of which spans anybody's version is gone over.
	Over func(span.ID) bool
	// IsDraft appends nothing: what would be appended is only said.
	IsDraft bool
}

// PublishSealed is Publish by other rules.
func (o *Owner) PublishSealed(ctx context.Context, want []*span.Span, rules Rules) ([]Publication, error) {
	ids := make([]span.ID, len(want))
	for i, s := range want {
		ids[i] = s.ID
	}
	found, err := o.Latest(ctx, ids)
	if err != nil {
		return nil, err
	}
	result, seal := make([]Publication, len(want)), rules.Seal
	var rows []*span.Span
	for i, s := range want {
		current := found[s.ID]
		var previous *string
		if current != nil {
			standing, err := o.judge(ctx, current, s, rules)
			if err != nil {
				return nil, err
			}
			if standing != nil {
				result[i] = *standing
				result[i].Before, result[i].Wanted = current, s
				continue
			}
			s.Seq, previous = current.Seq+1, current.CurrHash
		}
		if err := seal(s, previous); err != nil {
			return nil, fmt.Errorf("seal %s: %w", s.ID, err)
		}
		rows = append(rows, s)
		result[i] = Publication{Span: s, Before: current, Wanted: s, Changed: true}
	}
	if len(rows) == 0 || rules.IsDraft {
		return result, nil
	}
	return result, publish(ctx, o.conn, rows)
}

// judge returns what becomes of current where it stays, nil where wanted follows it.
func (o *Owner) judge(ctx context.Context, current, wanted *span.Span, rules Rules) (*Publication, error) {
	switch {
	case SameContent(current, wanted) && (rules.Stands == nil || rules.Stands(current)):
		return &Publication{Span: current}, nil
	case wanted.EntityType == "policy" && isOver(current):
		return &Publication{Span: current, Kept: true, Why: fmt.Errorf("it is %s, and nothing follows that "+
			"(docs/policies.md): append a policy of another id in its place", current.StatusText())}, nil
	case wanted.EntityType != "manifest" && isOver(current):
		return &Publication{Span: current, Kept: true, Why: fmt.Errorf("it is %s, and nothing follows that "+
			"(docs/kernels.md): give the manifest's kernels another id in its place", current.StatusText())}, nil
	case rules.Over != nil && rules.Over(wanted.ID):
		return nil, nil
	case current.Who != wanted.Who:
		return &Publication{Span: current, Kept: true}, nil
	case rules.Foreign == nil:
		return nil, nil
	}
	versions, err := o.Versions(ctx, wanted.ID)
	if err != nil {
		return nil, err
	}
	if why := rules.Foreign(versions); why != nil {
		return &Publication{Span: current, Kept: true, Why: why}, nil
	}
	return nil, nil
}

func publish(ctx context.Context, q querier, rows []*span.Span) error {
	outcomes, err := appendOn(ctx, q, []Group{{Rows: rows}})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if existing := outcomes[0].Existing; len(existing) > 0 {
		return fmt.Errorf("publish %s: somebody else appended version %d at the same time; run it again",
			rows[existing[0]].ID, rows[existing[0]].Seq)
	}
	return nil
}

// AppendAt appends the spans that draft returns, in a transaction whose snapshot (pg_current_snapshot) draft
// is told: so a span can say what was committed before it.
func (o *Owner) AppendAt(ctx context.Context, draft func(snapshot string) ([]*span.Span, error)) error {
	return pgx.BeginFunc(ctx, o.conn, func(tx pgx.Tx) error {
		var snapshot string
		if err := tx.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&snapshot); err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		rows, err := draft(snapshot)
		if err != nil {
			return err
		}
		return publish(ctx, tx, rows)
	})
}

// SameContent compares what Publish sets: name, description, code, language, status and metadata.
func SameContent(a, b *span.Span) bool {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return text(a.Name) == text(b.Name) && text(a.Description) == text(b.Description) &&
		text(a.Code) == text(b.Code) && text(a.Language) == text(b.Language) && a.StatusText() == b.StatusText() &&
		sameJSON(a.Metadata, b.Metadata)
}

func sameJSON(a, b json.RawMessage) bool {
	normal := func(raw json.RawMessage) []byte {
		if raw == nil {
			return nil
		}
		var value any
		if json.Unmarshal(raw, &value) != nil {
			return raw
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return raw
		}
		return encoded
	}
	return bytes.Equal(normal(a), normal(b))
}

// isOver reports whether the ledger takes no version after s but one that is over, too (ledger.may_follow).
func isOver(s *span.Span) bool {
	switch s.StatusText() {
	case "deprecated", "revoked", "archived":
		return true
	}
	return false
}
