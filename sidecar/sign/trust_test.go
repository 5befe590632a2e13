package sign

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestTrustFollowsTheChainFromThePinnedRoot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys, alice, stranger := newKey(t), newKey(t), newKey(t)
	b.addKey(b.root, keys, Rights{Purposes: []Purpose{PurposeKey}})
	b.addKey(keys, alice, functions())
	trust := b.trust()
	for name, c := range map[string]struct {
		row  *span.Span
		want span.RunCode
	}{
		"by the root":     {b.function(b.root), ""},
		"by a key of its": {b.function(alice), ""},
		"without":         {b.function(nil), span.RunUnsigned},
		"by a stranger":   {b.function(stranger), span.RunBadSignature},
		"without purpose": {b.function(keys), span.RunBadSignature},
	} {
		wantCode(t, name, trust.Check(c.row, PurposeFunction), c.want)
	}
	wantCode(t, "another purpose", trust.Check(b.function(alice), PurposeManifest), span.RunBadSignature)
	wantCode(t, "nothing pinned", NewTrust("", b.rows).Check(b.function(b.root), PurposeFunction),
		span.RunBadSignature)
	err := NewTrust("", b.rows).Check(b.function(nil), PurposeFunction)
	if err == nil || !strings.Contains(err.Message, "set LOGLINE_TRUST_ROOT") {
		t.Errorf("nothing pinned: %v", err)
	}
	err = NewTrust(stranger.Fingerprint(), b.rows).Check(b.function(alice), PurposeFunction)
	if err == nil || !strings.Contains(err.Message, "logline keys list") {
		t.Errorf("another root pinned: %v", err)
	}
}

func TestChangedSignaturesAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := newKey(t)
	b.addKey(b.root, other, functions())
	trust := b.trust()
	good, another := b.function(b.root), b.function(b.root, func(s *span.Span) { s.Code = new("return 2") })
	for name, c := range map[string]struct {
		change func(*span.Span)
		want   span.RunCode
	}{
		"code":                  {func(s *span.Span) { s.Code = new("return 3") }, span.RunHashMismatch},
		"no hash":               {func(s *span.Span) { s.CurrHash = nil }, span.RunHashMismatch},
		"hash of another span":  {func(s *span.Span) { s.CurrHash = another.CurrHash }, span.RunHashMismatch},
		"signature of another":  {func(s *span.Span) { s.Signature = another.Signature }, span.RunBadSignature},
		"signature without key": {func(s *span.Span) { s.PublicKey = nil; b.hash(s) }, span.RunBadSignature},
		"another key": {func(s *span.Span) { s.PublicKey = new(other.Public()); b.hash(s) },
			span.RunBadSignature},
		"another algorithm": {func(s *span.Span) { s.SigAlg = new("rsa"); b.hash(s) }, span.RunBadSignature},
		"key id of another": {func(s *span.Span) { s.SigKeyID = new("did:logline:00"); b.resign(s) },
			span.RunBadSignature},
		"no algorithm, no id":    {func(s *span.Span) { s.SigAlg, s.SigKeyID = nil, nil; b.resign(s) }, ""},
		"signature in upper hex": {func(s *span.Span) { s.Signature = new(strings.ToUpper(*s.Signature)) }, ""},
		"signature is no hex":    {func(s *span.Span) { s.Signature = new("xyz") }, span.RunBadSignature},
	} {
		row := *good
		c.change(&row)
		wantCode(t, name, trust.Check(&row, PurposeFunction), c.want)
		wantCode(t, name+", again", trust.Check(&row, PurposeFunction), c.want)
	}
	wantCode(t, "as it was", trust.Check(good, PurposeFunction), "")
}

// hash makes curr_hash right and leaves the signature; resign makes both right, and keeps the columns.
func (b *book) hash(row *span.Span) {
	b.t.Helper()
	signature := row.Signature
	if err := row.Seal(nil); err != nil {
		b.t.Fatal(err)
	}
	row.Signature = signature
}

func (b *book) resign(row *span.Span) {
	b.t.Helper()
	b.hash(row)
	row.Signature = new(b.root.sign(decodeHex(b.t, *row.CurrHash)))
}

// Each of these is a key span that somebody could append who is no holder of the root key.
func TestForgedKeysCountForNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants, plain := newKey(t), newKey(t)
	b.addKey(b.root, tenants, Rights{Purposes: []Purpose{PurposeKey, PurposeFunction}, Tenant: "acme"})
	b.addKey(b.root, plain, functions(PurposeSpan, PurposeManifest))
	stranger := newKey(t)
	document := func(change func(*Document)) func(*span.Span) {
		return func(s *span.Span) {
			var d Document
			if err := json.Unmarshal(s.Metadata, &d); err != nil {
				t.Fatal(err)
			}
			change(&d)
			s.Metadata, _ = json.Marshal(d)
		}
	}
	for name, c := range map[string]struct {
		signer *Key
		change func(*span.Span)
	}{
		"unsigned":             {nil, nil},
		"by itself":            {newKey(t), nil},
		"by a stranger":        {stranger, nil},
		"by a tenant's key":    {tenants, nil},
		"by one without key":   {plain, nil},
		"draft":                {b.root, func(s *span.Span) { s.Status = new("draft") }},
		"of a tenant":          {b.root, func(s *span.Span) { s.TenantID = "acme" }},
		"of an owner":          {b.root, func(s *span.Span) { s.OwnerID = "alice" }},
		"of another type":      {b.root, func(s *span.Span) { s.EntityType = "note" }},
		"under another id":     {b.root, func(s *span.Span) { s.ID = span.RunCodeID }},
		"no document":          {b.root, func(s *span.Span) { s.Metadata = json.RawMessage(`7`) }},
		"without proof":        {b.root, document(func(d *Document) { d.Proof = "" })},
		"proof of another":     {b.root, document(func(d *Document) { d.Proof = b.root.sign(d.Statement()) })},
		"more than was proved": {b.root, document(func(d *Document) { d.Owner = "bob" })},
		"another fingerprint":  {b.root, document(func(d *Document) { d.Fingerprint = b.root.Fingerprint() })},
		"another algorithm":    {b.root, document(func(d *Document) { d.Algorithm = "rsa" })},
	} {
		forged := newKey(t)
		if name == "by itself" {
			c.signer = forged
		}
		if c.change == nil {
			c.change = func(*span.Span) {}
		}
		b.addKey(c.signer, forged, functions(), c.change)
		wantCode(t, name, b.trust().Check(b.function(forged), PurposeFunction), span.RunBadSignature)
	}
	swapped := newKey(t)
	b.addKey(b.root, swapped, functions()).Signature = b.rows[0].Signature
	wantCode(t, "another span's signature", b.trust().Check(b.function(swapped), PurposeFunction),
		span.RunBadSignature)
	fake, named := newKey(t), newKey(t) // a root of one's own is one's own, also under the pinned name
	b.addKey(fake, fake, Rights{})
	b.addKey(named, named, Rights{}, document(func(d *Document) { d.Fingerprint = b.root.Fingerprint() }))
	wantCode(t, "another root", b.trust().Check(b.function(fake), PurposeFunction), span.RunBadSignature)
	wantCode(t, "in the root's name", b.trust().Check(b.function(named), PurposeFunction), span.RunBadSignature)
}

func TestRightsAreThoseOfTheFirstVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := newKey(t)
	first := b.addKey(b.root, key, Rights{Purposes: []Purpose{PurposeSpan}})
	wider, err := NewKeySpan(key, functions(PurposeSpan), "", first.At.Time)
	if err != nil {
		t.Fatal(err)
	}
	wider.Seq = 1
	b.rows = append(b.rows, b.put(b.root, wider, first.CurrHash))
	wantCode(t, "widened", b.trust().Check(b.function(key), PurposeFunction), span.RunBadSignature)
	wantCode(t, "as before", b.trust().Check(b.function(key), PurposeSpan), "")

	// Nor does a signature over small rights hold up the large ones that somebody has written before.
	greedy := newKey(t)
	first = b.addKey(nil, greedy, functions(PurposeManifest))
	narrow, err := NewKeySpan(greedy, Rights{Purposes: []Purpose{PurposeSpan}}, "", first.At.Time)
	if err != nil {
		t.Fatal(err)
	}
	narrow.Seq = 1
	b.rows = append(b.rows, b.put(b.root, narrow, first.CurrHash))
	for _, purpose := range []Purpose{PurposeManifest, PurposeSpan} {
		wantCode(t, "large, unsigned, then "+string(purpose), b.trust().Check(b.function(greedy), purpose),
			span.RunBadSignature)
	}
}

func TestKeysReachTheirTenantAndOwnerAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, alice, both := newKey(t), newKey(t), newKey(t)
	b.addKey(b.root, acme, Rights{Purposes: []Purpose{PurposeFunction}, Tenant: "acme"})
	b.addKey(b.root, alice, Rights{Purposes: []Purpose{PurposeFunction}, Owner: "alice"})
	b.addKey(b.root, both, Rights{Purposes: []Purpose{PurposeFunction}, Tenant: "acme", Owner: "alice"})
	trust := b.trust()
	for _, c := range []struct {
		key           *Key
		tenant, owner string
		want          span.RunCode
	}{
		{acme, "acme", "bob", ""}, {acme, "globex", "alice", span.RunBadSignature},
		{alice, "globex", "alice", ""}, {alice, "acme", "bob", span.RunBadSignature},
		{both, "acme", "alice", ""}, {both, "acme", "bob", span.RunBadSignature},
		{both, "globex", "alice", span.RunBadSignature}, {acme, "system", "system", span.RunBadSignature},
	} {
		row := b.function(c.key, func(s *span.Span) { s.TenantID, s.OwnerID = c.tenant, c.owner })
		wantCode(t, c.tenant+" "+c.owner, trust.Check(row, PurposeFunction), c.want)
	}
}

func TestChainsAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	signer := b.root
	for depth := 1; depth <= chainMax+1; depth++ {
		key := newKey(t)
		b.addKey(signer, key, functions(PurposeKey))
		signer = key
		want := span.RunCode("")
		if depth > chainMax {
			want = span.RunBadSignature
		}
		wantCode(t, fmt.Sprint(depth, " below the root"), b.trust().Check(b.function(key), PurposeFunction), want)
	}
	one, two := newKey(t), newKey(t) // two keys that hold each other up
	b.addKey(two, one, functions(PurposeKey))
	b.addKey(one, two, functions(PurposeKey))
	wantCode(t, "a circle", b.trust().Check(b.function(one), PurposeFunction), span.RunBadSignature)
}

func TestRevocationGoesByTransactionAndNotByTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := newKey(t)
	current := b.addKey(b.root, key, functions(PurposeKey))
	before := b.function(key)
	child, late := newKey(t), newKey(t)
	b.addKey(key, child, functions())
	open := b.function(key) // its transaction is open while the key is revoked
	openXact := *open.Xact
	snapshot := fmt.Sprintf("%s:%d:%s", openXact, b.xact+1, openXact)
	b.retire(b.root, current, "revoked", snapshot)
	after := b.function(key, func(s *span.Span) { s.At = before.At })
	after.AcceptedAt = before.AcceptedAt // a clock that went back makes no difference
	b.addKey(key, late, functions())
	trust := b.trust()
	wantCode(t, "before", trust.Check(before, PurposeFunction), "")
	wantCode(t, "open across", trust.Check(open, PurposeFunction), span.RunRevoked)
	wantCode(t, "after, backdated", trust.Check(after, PurposeFunction), span.RunRevoked)
	wantCode(t, "a key that it signed before", trust.Check(b.function(child), PurposeFunction), "")
	wantCode(t, "a key that it signed after", trust.Check(b.function(late), PurposeFunction), span.RunRevoked)
	wantCode(t, "present, not required", trust.CheckPresent(after), span.RunRevoked)

	// In another cluster transactions have begun anew: its low numbers are later all the same.
	restored := b.function(key)
	restored.Xact = new("3")
	wantCode(t, "after a restore", trust.Check(restored, PurposeFunction), span.RunRevoked)
	unstamped := b.function(key)
	unstamped.Xact, unstamped.AcceptedAt = nil, nil
	wantCode(t, "never in a ledger", trust.Check(unstamped, PurposeFunction), span.RunRevoked)
}

func TestRevocationFromTheStartTakesBackAll(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(b *book, current *span.Span){
		"from the start":   func(b *book, current *span.Span) { b.retire(b.root, current, "revoked", "") },
		"by nobody's hand": func(b *book, current *span.Span) { b.retire(nil, current, "revoked", "") },
		"by a snapshot that can not be read": func(b *book, current *span.Span) {
			b.retire(b.root, current, "revoked", "1:2:x")
		},
		"by a tombstone": func(b *book, current *span.Span) {
			b.retire(b.root, current, "deprecated", "").IsDeleted = true
		},
		"by a version without document": func(b *book, current *span.Span) {
			b.retire(b.root, current, "revoked", "").Metadata = nil
		},
	} {
		b := setup(t)
		key, child := newKey(t), newKey(t)
		current := b.addKey(b.root, key, functions(PurposeKey))
		b.addKey(key, child, functions())
		row := b.function(key)
		wantCode(t, name+", before", b.trust().Check(row, PurposeFunction), "")
		take(b, current)
		wantCode(t, name, b.trust().Check(row, PurposeFunction), span.RunRevoked)
		wantCode(t, name+", its child", b.trust().Check(b.function(child), PurposeFunction), span.RunRevoked)
	}
}

func TestDeprecatedKeysCountOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := newKey(t)
	b.retire(b.root, b.addKey(b.root, key, functions()), "deprecated", "")
	wantCode(t, "deprecated", b.trust().Check(b.function(key), PurposeFunction), "")
}

// A new root takes over the keys that are there: each gets a next version that it signs.
func TestAnotherRootCertifiesAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key, next := newKey(t), newKey(t)
	current := b.addKey(b.root, key, functions())
	b.addKey(next, next, Rights{})
	b.root = next
	wantCode(t, "before", b.trust().Check(b.function(key), PurposeFunction), span.RunBadSignature)
	again, err := NextKeySpan(current, "active", "", "", current.At.Time)
	if err != nil {
		t.Fatal(err)
	}
	b.rows = append(b.rows, b.put(next, again, again.PrevHash))
	wantCode(t, "after", b.trust().Check(b.function(key), PurposeFunction), "")
}

func TestWhatNeedsNoSignatureMayHaveAStrangers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	trust, row := b.trust(), b.function(newKey(t))
	wantCode(t, "a stranger's", trust.CheckPresent(row), "")
	wantCode(t, "none", trust.CheckPresent(b.function(nil)), "")
	row.Signature = b.rows[0].Signature
	wantCode(t, "a broken one", trust.CheckPresent(row), span.RunBadSignature)
	row.SigAlg = new("ed25519")
	b.hash(row)
	wantCode(t, "one of another algorithm", trust.CheckPresent(row), "")
	wantCode(t, "the same, where one is required", trust.Check(row, PurposeFunction), span.RunBadSignature)
}

func TestSnapshotsSeeWhatPostgresSays(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		least := 1 + random.Uint64N(1<<random.IntN(40))
		next := least + random.Uint64N(20)
		var running []string
		for xact := least; xact < next; xact++ {
			if random.IntN(3) == 0 {
				running = append(running, fmt.Sprint(xact))
			}
		}
		text := fmt.Sprintf("%d:%d:%s", least, next, strings.Join(running, ","))
		snapshot, err := ParseSnapshot(text)
		if err != nil {
			t.Fatal(err)
		}
		for xact := max(least, 3) - 2; xact < next+3; xact++ {
			var want bool
			if err := conn.QueryRow(t.Context(), `select pg_visible_in_snapshot($1::text::xid8,
				$2::text::pg_snapshot)`, fmt.Sprint(xact), text).Scan(&want); err != nil {
				t.Fatal(err)
			}
			if got := snapshot.Sees(xact); got != want {
				t.Errorf("%s sees %d: %v, Postgres says %v", text, xact, got, want)
			}
		}
	}
	for _, broken := range []string{"", "1", "1:2", "0:1:", "5:4:", "1:x:", "1:2:a", "1:2:,", ":", "1:2:3:4",
		"-1:2:"} {
		if _, err := ParseSnapshot(broken); err == nil {
			t.Errorf("reads %q", broken)
		}
	}
}
