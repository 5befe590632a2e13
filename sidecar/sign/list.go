package sign

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Entry is one key of a ledger, as `logline keys list` shows it.
type Entry struct {
	Fingerprint string  `json:"fingerprint"`
	PublicKey   string  `json:"public_key"`
	ID          span.ID `json:"id"`
	Seq         int     `json:"seq"` // of the newest version
	Name        string  `json:"name,omitempty"`
	Status      string  `json:"status"`
	Rights
	SignedBy string `json:"signed_by,omitempty"` // fingerprint
	// Counts is root, yes, before (what was committed before its revocation) or no; Reason says why.
	Counts string `json:"counts"`
	Reason string `json:"reason,omitempty"`
}

// The values of Entry.Counts.
const (
	CountsRoot   = "root"
	CountsYes    = "yes"
	CountsBefore = "before"
	CountsNo     = "no"
)

// List tells of every key span in rows (all versions of all key spans) what it is worth under the pinned
// root, in the order of their ids.
func List(root string, rows []*span.Span) []Entry {
	trust := NewTrust(root, rows)
	chains := map[span.ID][]*span.Span{}
	for _, row := range rows {
		chains[row.ID] = append(chains[row.ID], row)
	}
	entries := make([]Entry, 0, len(chains))
	for _, chain := range chains {
		slices.SortFunc(chain, func(a, b *span.Span) int { return cmp.Compare(a.Seq, b.Seq) })
		entries = append(entries, trust.describe(chain))
	}
	slices.SortFunc(entries, func(a, b Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return entries
}

func (t *Trust) describe(chain []*span.Span) Entry {
	newest := chain[len(chain)-1]
	entry := Entry{ID: newest.ID, Seq: newest.Seq, Status: newest.StatusText(), Counts: CountsNo}
	if newest.Name != nil {
		entry.Name = *newest.Name
	}
	document, err := ReadDocument(chain[0])
	if err != nil {
		entry.Reason = err.Error()
		return entry
	}
	entry.Fingerprint, entry.PublicKey, entry.Rights = document.Fingerprint, document.PublicKey, document.Rights
	if chain[0].PublicKey != nil {
		entry.SignedBy = fingerprintOf(*chain[0].PublicKey)
	}
	key := t.keys[document.PublicKey]
	switch {
	case key == nil && t.root == "":
		entry.Reason = "no root is pinned: set LOGLINE_TRUST_ROOT"
	case key == nil && t.root == document.Fingerprint:
		entry.Reason = "it is pinned, and not signed by itself"
	case key == nil:
		entry.Reason = "it does not lead to the pinned root"
		if refused := t.Check(chain[0], PurposeKey); refused != nil {
			entry.Reason = refused.Message
		}
	case key.isFallen:
		entry.Reason = "whoever signed it was revoked before"
	case slices.ContainsFunc(key.revocations, func(r revocation) bool { return r.snapshot == nil }):
		entry.Reason = "it was revoked from its start"
	case len(key.revocations) > 0:
		entry.Counts, entry.Reason = CountsBefore, "it was revoked: what was committed before counts"
	case key.isRoot:
		entry.Counts = CountsRoot
	default:
		entry.Counts = CountsYes
	}
	return entry
}

// Vouch returns nil where what the key of public signs from now on counts for purpose; else why not.
func (t *Trust) Vouch(public string, purpose Purpose) error {
	key := t.keys[public]
	switch {
	case key == nil && t.root == "":
		return errors.New("no root is pinned: set LOGLINE_TRUST_ROOT to the root key's fingerprint")
	case key == nil:
		return fmt.Errorf("the key %.12s… does not lead to the pinned root %.12s…", fingerprintOf(public), t.root)
	case key.isFallen || len(key.revocations) > 0:
		return fmt.Errorf("the key %.12s… is revoked", fingerprintOf(public))
	case !key.isRoot && !slices.Contains(key.Purposes, purpose):
		return fmt.Errorf("the key %.12s… has not the purpose %s", fingerprintOf(public), purpose)
	}
	return nil
}

func fingerprintOf(public string) string {
	raw, err := hex.DecodeString(public)
	if err != nil {
		return ""
	}
	return Fingerprint(raw)
}
