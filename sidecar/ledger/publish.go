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
	Changed bool       // a version was appended
	Kept    bool       // it differs, and stays: a governor wrote the version that stands
	Why     error      // why it stays, where that is another reason
}

// Publish brings system spans (kernels, the manifest) to the wanted content: a span that is missing
// becomes seq 0, one that differs becomes the next version, hashed and chained. One that is equal stays, and
// so does one whose newest version somebody else wrote: a governor's word outlasts an upgrade. Seq and
// hashes of want are set here. Two at a time are safe: the second meets the primary key and reports it.
func (o *Owner) Publish(ctx context.Context, want []*span.Span) ([]Publication, error) {
	return o.PublishSealed(ctx, want, (*span.Span).Seal, func(*span.Span) bool { return true })
}

// PublishSealed is Publish with a sealer that may sign. A version of equal content that stands says no to,
// because its signature is missing or does not count, gets a next version, too.
func (o *Owner) PublishSealed(ctx context.Context, want []*span.Span, seal Sealer,
	stands func(*span.Span) bool) ([]Publication, error) {
	return o.publishOver(ctx, want, seal, func(current, s *span.Span) (isGood, isKept bool) {
		isGood = sameContent(current, s) && stands(current)
		return isGood, current.Who != s.Who
	})
}

// ReplaceSealed is PublishSealed for one span that goes over a version of anybody's.
func (o *Owner) ReplaceSealed(ctx context.Context, want *span.Span, seal Sealer,
	stands func(*span.Span) bool) (*Publication, error) {
	published, err := o.publishOver(ctx, []*span.Span{want}, seal,
		func(current, s *span.Span) (isGood, isKept bool) {
			return sameContent(current, s) && current.Who == s.Who && stands(current), false
		})
	if err != nil {
		return nil, err
	}
	return &published[0], nil
}

func (o *Owner) publishOver(ctx context.Context, want []*span.Span, seal Sealer,
	judge func(current, s *span.Span) (isGood, isKept bool)) ([]Publication, error) {
	ids := make([]span.ID, len(want))
	for i, s := range want {
		ids[i] = s.ID
	}
	found, err := o.Latest(ctx, ids)
	if err != nil {
		return nil, err
	}
	result := make([]Publication, len(want))
	var rows []*span.Span
	for i, s := range want {
		current := found[s.ID]
		var previous *string
		if current != nil {
			if isGood, isKept := judge(current, s); isGood || isKept {
				result[i] = Publication{Span: current, Kept: !isGood}
				continue
			}
			s.Seq, previous = current.Seq+1, current.CurrHash
		}
		if err := seal(s, previous); err != nil {
			return nil, fmt.Errorf("seal %s: %w", s.ID, err)
		}
		rows = append(rows, s)
		result[i] = Publication{Span: s, Changed: true}
	}
	if len(rows) == 0 {
		return result, nil
	}
	return result, publish(ctx, o.conn, rows)
}

func publish(ctx context.Context, q querier, rows []*span.Span) error {
	outcomes, err := appendOn(ctx, q, []Group{{Rows: rows}})
	if err != nil {
		return fmt.Errorf("publish %d spans: %w", len(rows), err)
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

// sameContent compares what Publish sets: name, description, code, language, status and metadata.
func sameContent(a, b *span.Span) bool {
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
