package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Change is what bootstrap or a rollback did with one span, or would do, for people and for JSON.
type Change struct {
	Name    string  `json:"name"`
	ID      span.ID `json:"id"`
	Type    string  `json:"entity_type"`
	State   string  `json:"state"`         // published, would publish, unchanged, kept
	Version int     `json:"version"`       // that stands; of a draft: that would stand
	Hash    string  `json:"hash"`          // "" where it has none, or is a draft
	Signer  string  `json:"signed_by"`     // fingerprint; "" where it is unsigned, or a draft
	Why     string  `json:"why,omitempty"` // it is kept
	// Diff is from the version before to this one; of a kept one: to what this program ships. "" where they say
	// the same.
	Diff string `json:"diff,omitempty"`
}

// The states of a Change.
const (
	Published    = "published"
	WouldPublish = "would publish"
	Unchanged    = "unchanged"
	KeptAsIs     = "kept"
)

// Changes describes publications; isDraft says that nothing was appended.
func Changes(publications []ledger.Publication, isDraft bool) []Change {
	changes := make([]Change, len(publications))
	for i, p := range publications {
		c := Change{Name: nameOf(p.Span), ID: p.Span.ID, Type: p.Span.EntityType, State: Unchanged,
			Version: p.Span.Seq, Signer: signerOf(p.Span)}
		if p.Span.CurrHash != nil {
			c.Hash = *p.Span.CurrHash
		}
		switch {
		case p.Changed && isDraft: // its hash would be another one then, for it states the time
			c.State, c.Hash, c.Signer = WouldPublish, "", ""
		case p.Changed:
			c.State = Published
		case p.Kept:
			c.State, c.Why = KeptAsIs, fmt.Sprintf("%s wrote it; --over %s publishes what is shipped over it",
				p.Span.Who, c.Name)
			if p.Why != nil {
				c.Why = p.Why.Error()
			}
		}
		switch {
		case p.Changed:
			c.Diff = diff(p.Before, p.Span, fmt.Sprintf("version %d", p.Span.Seq))
		case p.Kept && p.Wanted != nil:
			c.Diff = diff(p.Before, p.Wanted, "as shipped")
		}
		changes[i] = c
	}
	return changes
}

func nameOf(row *span.Span) string {
	if row.Name == nil {
		return row.ID.String()
	}
	return *row.Name
}

// diff compares what two versions say, line by line. before may be nil.
func diff(before, after *span.Span, label string) string {
	if before != nil && ledger.SameContent(before, after) {
		return ""
	}
	name := nameOf(after)
	from, old := "nothing", ""
	if before != nil {
		from, old = fmt.Sprintf("version %d", before.Seq), said(before)
	}
	return udiff.Unified(name+", "+from, name+", "+label, old, said(after))
}

// said is what SameContent compares, as lines.
func said(row *span.Span) string {
	var text strings.Builder
	line := func(name string, value *string) {
		if value != nil {
			fmt.Fprintf(&text, "%s: %s\n", name, *value)
		}
	}
	line("name", row.Name)
	line("description", row.Description)
	line("status", row.Status)
	line("language", row.Language)
	if row.Metadata != nil {
		fmt.Fprintf(&text, "metadata: %s\n", sortedJSON(row.Metadata))
	}
	if row.Code != nil {
		text.WriteString("code:\n" + strings.TrimSuffix(*row.Code, "\n") + "\n")
	}
	return text.String()
}

// sortedJSON is a document with its members in order, one a line.
func sortedJSON(raw json.RawMessage) string {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return string(raw)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if encoder.Encode(value) != nil {
		return string(raw)
	}
	return strings.TrimSpace(out.String())
}

// Note is what stays to be known or done after a bootstrap.
type Note struct{ What, Text string }

// AfterBootstrap names the rights that kernels lack, and the versions that do not boot yet: the manifest pins
// others, or a timelock holds them back.
func AfterBootstrap(ctx context.Context, owner *ledger.Owner, root string, changes []Change) ([]Note, error) {
	lacking, err := LackingGrants(ctx, owner, root)
	if err != nil {
		return nil, err
	}
	var notes []Note
	for _, right := range lacking {
		notes = append(notes, Note{"lacking", "the kernel needs a right: logline manifest --give " + right})
	}
	head, err := readHead(ctx, owner, root, nil)
	if err != nil || head.base == nil {
		return notes, err
	}
	manifest, err := span.ParseManifest(head.base.Metadata)
	if err != nil {
		return notes, nil // LackingGrants has told of it
	}
	for _, change := range changes {
		if change.State != Published || manifest.Kernels[change.Name] != change.ID {
			continue
		}
		if seq, isPinned := manifest.Pins[change.Name]; isPinned && seq != change.Version {
			notes = append(notes, Note{"pinned", fmt.Sprintf("the manifest pins %s to version %d: version %d does "+
				"not boot until that changes (`logline manifest`)", change.Name, seq, change.Version)})
		} else if hours := manifest.Timelocks[change.Name]; hours > 0 && change.Version > 0 {
			notes = append(notes, Note{"waits", fmt.Sprintf("%s version %d takes force in %d hours: the manifest's "+
				"timelock", change.Name, change.Version, hours)})
		}
	}
	return notes, nil
}
