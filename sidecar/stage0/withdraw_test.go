package stage0

import (
	"fmt"
	"testing"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// withdrawals are the ways of taking the manifest out of force.
var withdrawals = map[string]func(*span.Span){
	"deprecated": func(s *span.Span) { s.Status = new("deprecated") },
	"revoked":    func(s *span.Span) { s.Status = new("revoked") },
	"deleted":    func(s *span.Span) { s.IsDeleted, s.Name = true, new("gone") },
}

func TestAManifestThatWasTakenBackIsFollowedUnderItsTimelock(t *testing.T) {
	t.Parallel()
	for name, withdraw := range withdrawals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &signedBench{bench: setup(t, nil, nil)}
			b.publish(b.timelocked("2.0.0", 24))
			gone := b.timelocked("2.0.0", 24)
			withdraw(gone)
			b.publish(gone)
			b.age(span.ManifestID, 0, 2100)
			b.age(span.ManifestID, 1, 2000)
			b.age(span.ManifestID, 2, 1900)
			wantNothingStarts(t, b, "out of force", "")
			b.publish(b.timelocked("3.0.0", 0))
			wantNothingStarts(t, b, "the timelock holds", "")
			b.age(span.ManifestID, 3, 25)
			s := b.another()
			if err := s.Reload(t.Context()); err != nil || s.Manifest().Version != "3.0.0" {
				t.Errorf("after the timelock: %v", err)
			}
		})
	}
}

func TestWithoutAKeyNobodyTakesBackAManifestThatRequiresSignatures(t *testing.T) {
	t.Parallel()
	for name, withdraw := range withdrawals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupSigned(t, true)
			gone := func() *span.Span {
				row := b.requiring(true)
				withdraw(row)
				return row
			}
			b.publish(gone())
			b.observe(span.ManifestID)
			b.restart()
			if n := ask[int](b.bench, `select count(*) from ledger.universal_registry where entity_type = 'incident'
				and error ->> 'message' like '%is not signed%'`); n != 1 {
				t.Errorf("%d incidents tell of it", n)
			}
			const inForce = `select coalesce(ledger_private.manifest_in_force() ->> 'version', '')`
			if version := ask[string](b.bench, inForce); version != "requires true" {
				t.Errorf("the database has version %q in force", version)
			}
			b.publishSigned(b.root, b.requiring(true)) // nothing may follow it but an active one
			b.publishSigned(b.root, gone())
			wantNothingStarts(t, b, "signed", "")
			b.publish(b.requiring(false))
			wantNothingStarts(t, b, "and then an unsigned one", "is not signed")
			b.publishSigned(b.root, b.requiring([]string{"policy"}))
			b.restart()
		})
	}
}

// Who changes the pin before the manifest lets go of nothing, though the new root is in the ledger.
func TestAnotherRootSetsNothingFree(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	next := newKey(t)
	b.publishKey(next, next)
	b.config.TrustRoot = next.Fingerprint()
	wantNothingStarts(t, b, "pinned", "does not lead to the root")
	b.publish(b.requiring(false))
	wantNothingStarts(t, b, "and one without a signature", "is not signed")
	b.publishSigned(next, b.requiring(false))
	b.restart()
}

func TestAManifestThatCannotBeReadAnyMoreBindsStill(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		required any
		signed   bool
		free     bool
	}{
		"signed":            {true, true, false},
		"in another form":   {map[string]any{"types": "all"}, true, false},
		"requiring nothing": {false, true, true},
		"unsigned":          {true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupSigned(t, false)
			b.publish(b.manifestSpan(document(t, map[string]any{"version": "unsigned"})))
			old := b.manifestSpan(document(t, map[string]any{"event_time": map[string]any{},
				"features": map[string]any{"signatures_required": c.required}}))
			if c.signed {
				b.publishSigned(b.root, old)
			} else {
				b.publish(old)
			}
			if !c.free {
				wantNothingStarts(t, b, name, "event_time")
			}
			b.publish(b.manifestSpan(document(t, map[string]any{"version": "after"})))
			if !c.free {
				wantNothingStarts(t, b, name, "is not signed")
				return
			}
			if b.restart(); b.Manifest().Version != "after" {
				t.Errorf("version %s is in force", b.Manifest().Version)
			}
		})
	}
}

// Who governs without a key may revoke one. That stops what the key has signed, and brings back nothing.
func TestARevocationWithoutASignatureBringsBackNoOlderManifest(t *testing.T) {
	t.Parallel()
	for name, isOffice := range map[string]bool{"its own key": false, "the key before it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupSigned(t, []string{"function"})
			office, editor := newKey(t), newKey(t)
			b.publishKey(b.root, office, sign.PurposeKey)
			b.publishKey(office, editor, sign.PurposeManifest)
			b.observeKey(sign.KeySpanID(editor.Public()), 0)
			b.publishSigned(editor, b.requiring(true))
			b.observe(span.ManifestID)
			taken := editor
			if isOffice {
				taken = office
			}
			b.revokeBy(nil, taken, true)
			_, err := b.boot("observer_bot", "", b.put(1, "function"))
			wantCode(t, "running", err, span.RunRevoked, "does not hold any more")
			wantNothingStarts(t, b, "without a signature", "revoked")
			b.revoke(taken, true)
			for what, running := range map[string]*Stage0{"running": b.Stage0, "started": b.another()} {
				if err := running.Reload(t.Context()); err != nil && what == "started" {
					t.Fatal(err)
				}
				if got := fmt.Sprint(running.Manifest().Features.SignaturesRequired.Types); got != "[function]" {
					t.Errorf("%s, signed: %s is required", what, got)
				}
			}
		})
	}
}
