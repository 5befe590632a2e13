package stage0

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

func forced(s *span.Span) { s.Metadata = json.RawMessage(`{"force": true}`) }

// Force passes a limit by the signature of an override key over the function's very version, for its owner,
// and once.
func TestForcePassesTheLimitOnceForEachVersion(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, false)
	b.publish(b.manifestSpan(document(t, limited(0, 100))))
	override, other := newKey(t), newKey(t)
	b.publishKey(b.root, override, sign.PurposeOverride)
	b.publishKey(b.root, other, sign.PurposeFunction)
	b.restart()
	n := 100
	run := func(f span.ID, change ...func(*span.Span)) *ledger.Group {
		n++
		group := b.perform(b.request(n, f, change...))
		return &group
	}
	public := func(s *span.Span) { s.Visibility = "public" }
	why := func(group *ledger.Group, want string) {
		t.Helper()
		if group.Fence.Reason == nil || !strings.Contains(*group.Fence.Reason, "next are free") ||
			!strings.Contains(*group.Fence.Reason, want) {
			t.Errorf("the reason is %v, want %q in it", group.Fence.Reason, want)
		}
	}
	for name, f := range map[string]*span.Span{
		"force without a signature":     b.signedFunction(1, nil, forced),
		"force by a key of no override": b.signedFunction(2, other, forced),
		"force by an unknown key":       b.signedFunction(3, newKey(t), forced),
		"an override key without force": b.signedFunction(4, override),
		"force that is no boolean": b.signedFunction(5, override, func(s *span.Span) {
			s.Metadata = json.RawMessage(`{"force": "true"}`)
		}),
	} {
		if got := run(f.ID).Fence.StatusText(); got != "blocked" {
			t.Errorf("%s: %s", name, got)
		}
	}
	f := b.signedFunction(6, override, forced, public)
	eve := func(s *span.Span) { s.OwnerID, s.TenantID = "eve", "t2" }
	if got := run(f.ID, eve).Fence.StatusText(); got != "blocked" {
		t.Errorf("a stranger uses the owner's force: %s", got)
	}
	why(run(f.ID, eve), "force is for its owner's own runs")
	why(run(idOf(1)), "metadata.force of the function does not count: ")
	why(run(idOf(2)), "override")
	plain := b.function(8, "return 8")
	why(run(plain.ID, forced), "metadata.force of the request does not count: ")
	signedRequest := func(key *sign.Key) func(*span.Span) {
		return func(s *span.Span) {
			forced(s)
			if err := sign.NewSigner(key).Seal(s, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := run(plain.ID, forced).Fence.StatusText(); got != "blocked" {
		t.Errorf("a request with force and no signature: %s", got)
	}
	if got := run(plain.ID, signedRequest(other)).Fence.StatusText(); got != "blocked" {
		t.Errorf("a request with force by a key of no override: %s", got)
	}
	if got := run(plain.ID, signedRequest(override)).Fence.StatusText(); got != "complete" {
		t.Errorf("a request with force: %s", got)
	}
	lost := b.request(200, f.ID)
	if _, err := b.boot("run_code", "", lost); err != nil {
		t.Fatal(err)
	}
	if got := run(f.ID).Fence.StatusText(); got != "blocked" {
		t.Errorf("two at once: %s", got)
	}
	b.Settled(lost.ID, false)
	group := run(f.ID)
	key := *f.SigKeyID
	if group.Fence.StatusText() != "complete" || !strings.Contains(string(group.Rows[0].Metadata),
		fmt.Sprintf(`"forced":{"key_id":%q}`, key)) {
		t.Fatalf("forced: %s, %s", group.Fence.StatusText(), group.Rows[0].Metadata)
	}
	again := run(f.ID)
	if got := again.Fence.StatusText(); got != "blocked" {
		t.Errorf("a second time: %s", got)
	}
	why(again, "has let a run through already")
	b.restart()
	if got := run(f.ID).Fence.StatusText(); got != "blocked" {
		t.Errorf("a second time, after a restart: %s", got)
	}
	next := *f
	next.Seq, next.PrevHash, next.Xact, next.AcceptedAt = 1, f.CurrHash, nil, nil
	if err := sign.NewSigner(override).Seal(&next, f.CurrHash); err != nil {
		t.Fatal(err)
	}
	b.commit(ledger.Group{Fence: &next})
	if err := b.Observe(t.Context(), &span.Published{ID: f.ID, Seq: 1, EntityType: "function"}); err != nil {
		t.Fatal(err)
	}
	if got := run(f.ID).Fence.StatusText(); got != "complete" {
		t.Errorf("the next version: %s", got)
	}
	b.revoke(override, false)
	after := b.signedFunction(7, override, forced)
	if got := run(after.ID).Fence.StatusText(); got == "complete" {
		t.Error("the force of a revoked key counts")
	}
}
