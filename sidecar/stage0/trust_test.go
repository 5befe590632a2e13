package stage0

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// signedBench is a bench whose root key is pinned, and signs kernels and manifest; the sidecar has a key.
type signedBench struct {
	*bench
	root, sidecar *sign.Key
}

// setupSigned requires what required says: true, false or a list of types.
func setupSigned(t testing.TB, required any) *signedBench {
	t.Helper()
	b := &signedBench{bench: setup(t, nil, nil), root: newKey(t), sidecar: newKey(t)}
	b.config.Signer, b.config.TrustRoot = sign.NewSigner(b.sidecar), b.root.Fingerprint()
	b.publishKey(b.root, b.root)
	b.publishKey(b.root, b.sidecar, sign.PurposeSpan)
	all, err := kernels.All()
	if err != nil {
		t.Fatal(err)
	}
	var want []*span.Span
	for _, kernel := range all {
		want = append(want, system(kernel.ID, "function", func(s *span.Span) {
			s.Name, s.Code = &kernel.Name, &kernel.Source
		}))
	}
	b.publishSigned(b.root, append(want, b.requiring(required))...)
	b.restart()
	return b
}

// restart reads everything anew, as the next process would.
func (b *signedBench) restart() {
	b.t.Helper()
	b.Stage0 = b.another()
	if err := b.Reload(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.checkInForce(b.Stage0)
}

// requiring is a manifest with this features.signatures_required.
func (b *signedBench) requiring(required any) *span.Span {
	return b.manifestSpan(document(b.t, map[string]any{"version": fmt.Sprint("requires ", required),
		"features": map[string]any{"signatures_required": required}}))
}

func newKey(t testing.TB) *sign.Key {
	t.Helper()
	key, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (b *signedBench) publishKey(signer, key *sign.Key, purposes ...sign.Purpose) *span.Span {
	b.t.Helper()
	row, err := sign.NewKeySpan(key, sign.Rights{Purposes: purposes}, "", time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	b.publishSigned(signer, row)
	return row
}

func (b *signedBench) publishSigned(signer *sign.Key, want ...*span.Span) {
	b.t.Helper()
	_, err := b.owner.PublishSealed(b.t.Context(), want, ledger.Rules{Seal: sign.NewSigner(signer).Seal,
		Stands: func(*span.Span) bool { return false }})
	if err != nil {
		b.t.Fatal(err)
	}
}

// revoke takes key back from now on, or from its start, and tells Stage-0.
func (b *signedBench) revoke(key *sign.Key, fromStart bool) {
	b.t.Helper()
	b.revokeBy(b.root, key, fromStart)
}

// revokeBy is revoke with a signature of signer; nil is none.
func (b *signedBench) revokeBy(signer, key *sign.Key, fromStart bool) {
	b.t.Helper()
	id := sign.KeySpanID(key.Public())
	found, err := b.owner.Latest(b.t.Context(), []span.ID{id})
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.owner.AppendAt(b.t.Context(), func(snapshot string) ([]*span.Span, error) {
		if fromStart {
			snapshot = ""
		}
		row, err := sign.NextKeySpan(found[id], "revoked", "test", snapshot, time.Now())
		if err != nil {
			return nil, err
		}
		return []*span.Span{row}, sign.NewSigner(signer).Seal(row, row.PrevHash)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.observeKey(id, found[id].Seq+1)
}

func (b *signedBench) observeKey(id span.ID, seq int) {
	b.t.Helper()
	err := b.Observe(b.t.Context(), &span.Published{ID: id, Seq: seq, EntityType: "key", TenantID: "system"})
	if err != nil {
		b.t.Fatal(err)
	}
}

// signedFunction appends a function of alice that key has signed (nil: only hashed).
func (b *signedBench) signedFunction(n int, key *sign.Key, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	return b.function(n, "return "+fmt.Sprint(n), append(change, func(s *span.Span) {
		if err := sign.NewSigner(key).Seal(s, nil); err != nil {
			b.t.Fatal(err)
		}
	})...)
}

func TestOnlySignedFunctionsRunWhereSignaturesAreRequired(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	alice, stranger := newKey(t), newKey(t)
	b.publishKey(b.root, alice, sign.PurposeFunction)
	b.observeKey(sign.KeySpanID(alice.Public()), 0)
	other := b.signedFunction(90, alice)
	for i, c := range []struct {
		key    *sign.Key
		tamper string
		code   span.RunCode
		want   string
	}{
		{alice, "", "", ""},
		{b.root, "", "", ""},
		{nil, "", span.RunUnsigned, "is not signed, and a signature is required"},
		{stranger, "", span.RunBadSignature, "does not lead to the root"},
		{b.sidecar, "", span.RunBadSignature, "without the purpose function"},
		{alice, "signature = '" + *other.Signature + "'", span.RunBadSignature, "not that of its public_key"},
		{alice, "public_key = '" + stranger.Public() + "'", span.RunHashMismatch, "not what was hashed"},
		{alice, "signature = null", span.RunUnsigned, ""},
	} {
		f := b.signedFunction(10+2*i, c.key)
		if c.tamper != "" {
			b.tamper(c.tamper, f.ID)
		}
		x, _ := b.execute(11+2*i, f.ID)
		wantCode(t, fmt.Sprint("case ", i), x, c.code, c.want)
		if want := map[bool]string{true: "complete", false: "error"}[c.code == ""]; x.StatusText() != want {
			t.Errorf("case %d: the execution is %s", i, x.StatusText())
		}
	}
}

func TestAllThatStage0AppendsIsSigned(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, false)
	f := b.function(1, "ctx.insertSpan({entity_type: 'note'}); return 1")
	x, group := b.execute(2, f.ID)
	if len(group.Rows) != 2 {
		t.Fatalf("got %d rows", len(group.Rows))
	}
	failure, err := b.Failure(b.request(3, f.ID), &span.RunError{Code: span.RunCrash, Message: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AppendBoots(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	b.publish(b.manifestSpan(json.RawMessage(`{"x":1}`)))
	b.observe(span.ManifestID) // makes an incident
	rows := append(group.Rows, group.Fence, failure.Fence, failure.Rows[0], x)
	for _, entityType := range []string{"boot_event", "incident"} {
		id := ask[string](b.bench,
			`select id::text from ledger.universal_registry where entity_type = $1 limit 1`, entityType)
		found, err := b.owner.Latest(t.Context(), []span.ID{span.MustID(id)})
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, found[span.MustID(id)])
	}
	for _, row := range rows {
		if err := b.checkSignature(t.Context(), row, sign.PurposeSpan); err != nil {
			t.Errorf("%s: %v", row.EntityType, err)
		}
	}
}

func TestKernelsNeedASignatureWhereItIsRequired(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, []string{"function"})
	if _, err := b.boot("observer_bot", "", b.put(1, "function")); err != nil {
		t.Fatal(err)
	}
	code := "export default async function main() {}"
	b.publish(system(span.ObserverBotID, "function", func(s *span.Span) { s.Code = &code }))
	b.observe(span.ObserverBotID)
	_, err := b.boot("observer_bot", "", b.put(2, "function"))
	wantCode(t, "unsigned", err, span.RunUnsigned, "a signature is required")
	wantNotReady(t, b, "observer_bot")
}

func wantNotReady(t *testing.T, b *signedBench, why string) {
	t.Helper()
	if err := b.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("Verify says %v, want %s", err, why)
	}
}

func TestASidecarWithoutKeyIsNotReadyWhereSignaturesAreRequired(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	b.config.Signer = nil
	b.restart()
	wantNotReady(t, b, "LOGLINE_SIGNING_KEY_FILE")
}

func TestASidecarWhoseKeyIsRevokedIsNotReady(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, false)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	b.revoke(b.sidecar, false)
	wantNotReady(t, b, "is revoked")
}

func TestRevokedKeysCostNothingThatWasCommittedBefore(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	alice := newKey(t)
	b.publishKey(b.root, alice, sign.PurposeFunction)
	b.observeKey(sign.KeySpanID(alice.Public()), 0)
	before := b.signedFunction(1, alice)
	x, _ := b.execute(2, before.ID)
	wantCode(t, "before", x, "", "")

	// A transaction that is open across the revocation, and commits after it.
	late := &span.Span{ID: idOf(3), EntityType: "function", Who: "user:alice", OwnerID: "alice", TenantID: "t1",
		At: before.At, Visibility: "private", Status: new("active"), Code: new("return 3")}
	if err := sign.NewSigner(alice).Seal(late, nil); err != nil {
		t.Fatal(err)
	}
	tx, err := b.connect().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.insert(tx, late)
	b.revoke(alice, false)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := b.signedFunction(5, alice, func(s *span.Span) { s.At = before.At })

	for _, restarted := range []bool{false, true} {
		if restarted {
			b.restart()
		}
		for n, c := range map[int]struct {
			row  *span.Span
			want span.RunCode
		}{0: {before, ""}, 1: {late, span.RunRevoked}, 2: {after, span.RunRevoked}} {
			requestID := 100 + n
			if restarted {
				requestID += 10
			}
			x, _ := b.execute(requestID, c.row.ID)
			wantCode(t, fmt.Sprint(n, " restarted ", restarted), x, c.want, "")
		}
	}
	b.revoke(b.sidecar, true)
	if err := b.checkSignature(t.Context(), b.put(7, "note", func(s *span.Span) {
		if err := sign.NewSigner(b.sidecar).Seal(s, nil); err != nil {
			t.Fatal(err)
		}
	}), sign.PurposeSpan); err == nil || err.Code != span.RunRevoked {
		t.Errorf("from the start: %v", err)
	}
}

// insert appends row in a transaction of the caller's.
func (b *signedBench) insert(tx pgx.Tx, row *span.Span) {
	b.t.Helper()
	encoded, err := json.Marshal(row)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = tx.Exec(b.t.Context(), `insert into ledger.universal_registry
		select * from jsonb_populate_record(null::ledger.universal_registry, $1::jsonb)`, string(encoded))
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestKernelsOfARevokedKeyAreRefusedFromTheMomentItIsSeen(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	builder := newKey(t)
	b.publishKey(b.root, builder, sign.PurposeFunction)
	b.observeKey(sign.KeySpanID(builder.Public()), 0)
	code := "export default async function main() {}"
	b.publishSigned(builder, system(span.ObserverBotID, "function", func(s *span.Span) { s.Code = &code }))
	b.observe(span.ObserverBotID)
	if _, err := b.boot("observer_bot", "", b.put(1, "function")); err != nil {
		t.Fatal(err)
	}
	b.revoke(builder, false) // it was committed before: it may go on
	if _, err := b.boot("observer_bot", "", b.put(2, "function")); err != nil {
		t.Fatal(err)
	}
	code += "\n"
	b.publishSigned(builder, system(span.ObserverBotID, "function", func(s *span.Span) { s.Code = &code }))
	b.observe(span.ObserverBotID)
	_, err := b.boot("observer_bot", "", b.put(3, "function"))
	wantCode(t, "after", err, span.RunRevoked, "was revoked before")
}

func TestManifestThatRequiresSignaturesMustCarryOne(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, false)
	builder, editor := newKey(t), newKey(t)
	b.publishKey(b.root, builder, sign.PurposeFunction)
	b.publishKey(b.root, editor, sign.PurposeManifest)
	b.observeKey(sign.KeySpanID(editor.Public()), 0)
	for i, c := range []struct {
		key      *sign.Key
		required any
		takes    bool
	}{
		{nil, true, false}, {nil, []string{"policy"}, false}, {builder, true, false},
		{nil, false, true}, // nothing has required anything
		{editor, []string{"policy"}, true},
		{nil, false, false}, {nil, []string{"policy"}, false}, {builder, false, false}, {editor, true, true},
		{nil, false, false},
		{editor, false, true}, // its own key lets go of it
		{nil, false, true},
	} {
		version := fmt.Sprint("case ", i)
		row := b.requiring(c.required)
		row.Metadata = json.RawMessage(strings.Replace(string(row.Metadata),
			fmt.Sprint("requires ", c.required), version, 1))
		b.publishSigned(c.key, row)
		b.observe(span.ManifestID)
		for _, running := range []*Stage0{b.Stage0, b.another()} {
			_ = running.Reload(t.Context()) // its refusal is judged by what is in force
			if took := running.Manifest() != nil && running.Manifest().Version == version; took != c.takes {
				t.Errorf("%s: in force: %v, want %v", version, took, c.takes)
			}
		}
	}
	if n := ask[int](b.bench, `select count(*) from ledger.universal_registry where entity_type = 'incident'
		and error ->> 'message' like '%signature%'`); n == 0 {
		t.Error("no incident tells of it")
	}
}

// What is older than every timelock needs nothing before it to be read, unless it is not signed.
func TestAManifestBindsHoweverOldItIs(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	b.publish(b.requiring(false))
	for seq := range 3 {
		b.age(span.ManifestID, seq, span.TimelockHoursMax+1)
	}
	for name, running := range map[string]*Stage0{"running": b.Stage0, "restarted": b.another()} {
		_ = running.Reload(t.Context()) // it refuses the newest
		if running.Manifest() == nil || !running.Manifest().Features.SignaturesRequired.All {
			t.Errorf("%s: the unsigned manifest is in force", name)
		}
	}
	for name, root := range map[string]string{"without a root": "", "another root": newKey(t).Fingerprint()} {
		b.config.TrustRoot = root
		wantNothingStarts(t, b, name, "LOGLINE_TRUST_ROOT")
	}
}

func TestWithoutItsRootNothingStartsThatRequiresSignatures(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, false)
	b.publish(b.manifestSpan(document(t, map[string]any{"version": "unsigned"}))) // may stand in, else
	b.publishSigned(b.root, b.requiring(true))
	for name, root := range map[string]string{"none": "", "another": newKey(t).Fingerprint()} {
		b.config.TrustRoot = root
		wantNothingStarts(t, b, name, "LOGLINE_TRUST_ROOT")
	}
}

// wantNothingStarts checks that a sidecar that starts now finds no manifest in force, and says why.
func wantNothingStarts(t *testing.T, b *signedBench, what, why string) {
	t.Helper()
	s := b.another()
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: %v, want %q", what, err, why)
	}
	if s.Manifest() != nil {
		t.Errorf("%s: manifest %s is in force", what, s.Manifest().Version)
	}
	b.checkInForce(s)
}

func TestManifestOfAStolenKeyIsTakenBack(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	editor := newKey(t)
	b.publishKey(b.root, editor, sign.PurposeManifest)
	b.observeKey(sign.KeySpanID(editor.Public()), 0)
	b.publishSigned(editor, b.requiring(false))
	b.observe(span.ManifestID)
	if b.Manifest().Features.SignaturesRequired.IsAny() {
		t.Fatal("the thief's manifest is not in force")
	}
	b.revoke(editor, true)
	if !b.Manifest().Features.SignaturesRequired.All {
		t.Error("the manifest before does not stand in")
	}
	b.restart()
	if !b.Manifest().Features.SignaturesRequired.All {
		t.Error("after a restart the manifest before does not stand in")
	}
}

func TestNothingRunsUnderAManifestWhoseKeyDoesNotCountAnyMore(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, false)
	f := b.function(1, "return 1")
	b.publish(b.manifestSpan(document(t, map[string]any{"version": "unsigned"})))
	editor := newKey(t)
	b.publishKey(b.root, editor, sign.PurposeManifest)
	b.publishSigned(editor, b.requiring(true))
	b.observeKey(sign.KeySpanID(editor.Public()), 0)
	b.revoke(b.root, true) // takes the editor and the kernels with it
	_, err := b.boot("run_code", "", b.request(2, f.ID))
	wantCode(t, "under it", err, span.RunRevoked, "does not hold any more")
	wantNotReady(t, b, "does not hold any more")
	if s := b.another(); s.Reload(t.Context()) == nil {
		t.Error("it starts all the same")
	}
}

func TestSignaturesThatAreThereMustHoldThoughNoneIsRequired(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, false)
	stranger := newKey(t)
	good, bad := b.signedFunction(1, stranger), b.signedFunction(3, stranger)
	b.tamper("signature = '"+*good.Signature+"'", bad.ID)
	x, _ := b.execute(2, good.ID)
	wantCode(t, "a stranger's", x, "", "")
	x, _ = b.execute(4, bad.ID)
	wantCode(t, "a broken one", x, span.RunBadSignature, "not that of its public_key")
	alice := newKey(t)
	b.publishKey(b.root, alice, sign.PurposeFunction)
	b.revoke(alice, false)
	x, _ = b.execute(6, b.signedFunction(5, alice).ID)
	wantCode(t, "a revoked one", x, span.RunRevoked, "")
}

// What a function emits is signed by the sidecar, whose key is for spans: code never makes signed code.
func TestFunctionsCanNotSignFunctions(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, true)
	alice := newKey(t)
	b.publishKey(b.root, alice, sign.PurposeFunction)
	b.observeKey(sign.KeySpanID(alice.Public()), 0)
	maker := b.function(1, "ctx.insertSpan({entity_type: 'function', status: 'active', code: 'return 1'}); return 1",
		func(s *span.Span) {
			if err := sign.NewSigner(alice).Seal(s, nil); err != nil {
				t.Fatal(err)
			}
		})
	x, group := b.execute(2, maker.ID)
	wantCode(t, "the maker", x, "", "")
	outcomes, err := b.config.Ledger.Append(t.Context(), []ledger.Group{group})
	if err != nil || outcomes[0].Err != nil {
		t.Fatal(err, outcomes)
	}
	for _, row := range group.Rows {
		if row.EntityType == "function" {
			x, _ = b.execute(4, row.ID)
		}
	}
	wantCode(t, "what it made", x, span.RunBadSignature, "without the purpose function")
}

func TestRequestsNeedASignatureWhereTheManifestNamesThem(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, []string{"request"})
	f := b.function(1, "return 1")
	x, _ := b.execute(2, f.ID)
	wantCode(t, "unsigned", x, span.RunUnsigned, "the request")
	x, _ = b.execute(3, f.ID, func(s *span.Span) {
		if err := sign.NewSigner(b.sidecar).Seal(s, nil); err != nil {
			t.Fatal(err)
		}
	})
	wantCode(t, "signed", x, "", "")
}

func TestProvidersNeedASignatureWhereItIsRequired(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, []string{"provider"})
	key := newKey(t)
	b.publishKey(b.root, key, sign.PurposeProvider)
	b.observeKey(sign.KeySpanID(key.Public()), 0)
	f := b.function(1, "export default async function main(ctx) {"+
		" return (await ctx.find({entity_type: 'provider', name: ctx.input})).map((p) => p.name) }")
	for i, c := range []struct {
		name string
		key  *sign.Key
		code span.RunCode
	}{{"good", key, ""}, {"unsigned", nil, span.RunUnsigned}, {"span's", b.sidecar, span.RunBadSignature}} {
		b.put(10+i, "provider", func(s *span.Span) {
			s.Name = &c.name
			if err := sign.NewSigner(c.key).Seal(s, nil); err != nil {
				t.Fatal(err)
			}
		})
		input, err := json.Marshal(c.name)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := b.execute(20+i, f.ID, func(s *span.Span) { s.Input = input })
		if c.code == "" && string(x.Output) != `["good"]` || c.code != "" && !strings.Contains(string(x.Error), "sign") {
			t.Errorf("%s: output %s, error %s", c.name, x.Output, x.Error)
		}
	}
}

func TestPoliciesNeedASignatureWhereItIsRequired(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, []string{"policy"})
	key := newKey(t)
	b.publishKey(b.root, key, sign.PurposePolicy)
	b.observeKey(sign.KeySpanID(key.Public()), 0)
	cause := b.put(1, "note")
	policy := func(n int, key *sign.Key) *span.Span {
		return b.put(n, "policy", func(s *span.Span) {
			s.Code = new(`export default function on(span, ctx) { return [{emit_span: {entity_type: "mark"}}] }`)
			if err := sign.NewSigner(key).Seal(s, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if rows := b.judge(policy(2, key), cause, ""); len(rows) != 1 || rows[0].EntityType != "mark" {
		t.Errorf("signed: %+v", rows)
	}
	b.refusedAs("unsigned", policy(3, nil), cause, span.RunUnsigned, "a signature is required")
	b.refusedAs("by a sidecar", policy(4, b.sidecar), cause, span.RunBadSignature, "without the purpose policy")
}
