package sign

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// book stands for a ledger: it stamps rows as the database does.
type book struct {
	t    testing.TB
	root *Key
	xact int
	rows []*span.Span // of keys
}

func setup(t testing.TB) *book {
	t.Helper()
	b := &book{t: t, root: newKey(t), xact: 100}
	b.addKey(b.root, b.root, Rights{})
	return b
}

func newKey(t testing.TB) *Key {
	t.Helper()
	key, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (b *book) trust() *Trust { return NewTrust(b.root.Fingerprint(), b.rows) }

// put seals row by key and stamps it.
func (b *book) put(key *Key, row *span.Span, prevHash *string) *span.Span {
	b.t.Helper()
	if err := NewSigner(key).Seal(row, prevHash); err != nil {
		b.t.Fatal(err)
	}
	b.stamp(row)
	return row
}

func (b *book) stamp(row *span.Span) {
	b.xact++
	row.Xact = new(strconv.Itoa(b.xact))
	row.AcceptedAt = new(span.NewTime(time.UnixMilli(1_800_000_000_000 + int64(b.xact))))
}

// addKey appends the span of key, signed by signer, after change has been at it.
func (b *book) addKey(signer, key *Key, rights Rights, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	row, err := NewKeySpan(key, rights, "", time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range change {
		c(row)
	}
	b.rows = append(b.rows, b.put(signer, row, nil))
	return row
}

// retire appends the next version of a key span.
func (b *book) retire(signer *Key, current *span.Span, status, snapshot string) *span.Span {
	b.t.Helper()
	row, err := NextKeySpan(current, status, "", snapshot, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	b.rows = append(b.rows, b.put(signer, row, row.PrevHash))
	return row
}

// function is one of alice, of tenant acme, sealed by key (nil: hashed alone).
func (b *book) function(key *Key, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	row := &span.Span{ID: span.MustID("018f0000-0000-7000-8000-000000000001"), EntityType: "function",
		Who: "user:alice", At: span.NewTime(time.Now()), OwnerID: "alice", TenantID: "acme", Visibility: "private",
		Status: new("active"), Code: new("return 1")}
	for _, c := range change {
		c(row)
	}
	return b.put(key, row, nil)
}

func functions(more ...Purpose) Rights { return Rights{Purposes: append(more, PurposeFunction)} }

func wantCode(t testing.TB, what string, got *span.RunError, want span.RunCode) {
	t.Helper()
	switch {
	case got == nil && want != "":
		t.Errorf("%s: passes, want %s", what, want)
	case got != nil && got.Code != want:
		t.Errorf("%s: got %v, want %q", what, got, want)
	}
}
