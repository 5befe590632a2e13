package ledger

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// as is databaseURL with another login.
func as(t testing.TB, databaseURL, login, password string) string {
	t.Helper()
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.UserPassword(login, password)
	return parsed.String()
}

func TestAReaderReadsAndCannotWrite(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l, err := Open(t.Context(), db.SidecarURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	kept := note(t, idOf(1))
	mustAppend(t, l, Group{Rows: []*span.Span{kept}})

	owner := connect(t, db.URL)
	stranger := "stranger_" + strings.ReplaceAll(owner.Config().Database, "-", "_")
	exec(t, owner, fmt.Sprintf("create role %s login password 'x' in role authenticated",
		pgx.Identifier{stranger}.Sanitize()))
	t.Cleanup(func() {
		drop := "drop role " + pgx.Identifier{stranger}.Sanitize()
		if _, err := owner.Exec(context.Background(), drop); err != nil {
			t.Error(err)
		}
	})

	for _, c := range []struct {
		login, url string
		sees       bool
	}{
		{"the sidecar's", db.SidecarURL, true},
		{"the owner's", db.URL, true},
		{"a user's, whose claims nobody states", as(t, db.URL, stranger, "x"), false},
	} {
		reader, err := OpenReader(t.Context(), c.url)
		if err != nil {
			t.Errorf("%s: %v", c.login, err)
			continue
		}
		t.Cleanup(reader.Close)
		found, err := reader.Load(t.Context(), []span.Key{kept.Key()})
		if err != nil || (found[kept.Key()] != nil) != c.sees {
			t.Errorf("%s sees %v, %v, want %v", c.login, found, err, c.sees)
		}
		outcomes, err := reader.Append(t.Context(), []Group{{Rows: []*span.Span{note(t, idOf(2))}}})
		if err == nil && outcomes[0].Err == nil {
			t.Errorf("%s: a reader has appended", c.login)
		}
	}
	if n := ask[int](t, owner, "select count(*) from ledger.universal_registry"); n != 1 {
		t.Errorf("there are %d rows", n)
	}
}
