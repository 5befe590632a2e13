package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Publication says what Publish did with one span.
type Publication struct {
	Span    *span.Span // as it stands in the ledger now
	Changed bool       // a version was appended
	Kept    bool       // it differs, and stays: a governor wrote the version that stands
}

// Publish brings system spans (kernels, the manifest) to the wanted content: a span that is missing
// becomes seq 0, one that differs becomes the next version, hashed and chained. One that is equal stays, and
// so does one whose newest version somebody else wrote: a governor's word outlasts an upgrade. Seq and
// hashes of want are set here. Two at a time are safe: the second meets the primary key and reports it.
func (o *Owner) Publish(ctx context.Context, want []*span.Span) ([]Publication, error) {
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
		if current != nil && (sameContent(current, s) || current.Who != s.Who) {
			result[i] = Publication{Span: current, Kept: !sameContent(current, s)}
			continue
		}
		var previous *string
		if current != nil {
			s.Seq, previous = current.Seq+1, current.CurrHash
		}
		if err := s.Seal(previous); err != nil {
			return nil, fmt.Errorf("hash %s: %w", s.ID, err)
		}
		rows = append(rows, s)
		result[i] = Publication{Span: s, Changed: true}
	}
	if len(rows) == 0 {
		return result, nil
	}
	outcomes, err := appendOn(ctx, o.conn, []Group{{Rows: rows}})
	if err != nil {
		return nil, fmt.Errorf("publish %d spans: %w", len(rows), err)
	}
	if existing := outcomes[0].Existing; len(existing) > 0 {
		return nil, fmt.Errorf("publish %s: somebody else appended version %d at the same time; run it again",
			rows[existing[0]].ID, rows[existing[0]].Seq)
	}
	return result, nil
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
