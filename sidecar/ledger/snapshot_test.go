package ledger

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// A snapshot sees in Go what it sees in Postgres. Run it longer with -fuzz.
func FuzzSnapshotSeesWhatPostgresSees(f *testing.F) {
	db := pgtest.New(f)
	for _, text := range []string{"1:1:", "10:20:10,14,15", "10:10:", "7:9:7,8", "3:18446744073709551615:5"} {
		f.Add(text, uint64(10))
	}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 7))
		xmin := 1 + random.Uint64N(1000)
		xmax := xmin + random.Uint64N(30)
		var xip []uint64
		for range random.IntN(6) {
			if xmax > xmin {
				xip = append(xip, xmin+random.Uint64N(xmax-xmin))
			}
		}
		slices.Sort(xip)
		parts := []string{}
		for _, xact := range xip {
			parts = append(parts, strconv.FormatUint(xact, 10))
		}
		text := strconv.FormatUint(xmin, 10) + ":" + strconv.FormatUint(xmax, 10) + ":" + strings.Join(parts, ",")
		f.Add(text, xmin+random.Uint64N(40)-min(xmin, 5))
	}
	for _, text := range []string{"", "0:0:", "5:4:", "1:2", "a:b:", "1:5:9", "1:5:3,2", "1:5:,", "-1:2:"} {
		f.Add(text, uint64(3))
	}
	conn, err := pgx.Connect(f.Context(), db.URL)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close(f.Context()) }) // the database is dropped with it
	f.Fuzz(func(t *testing.T, text string, xact uint64) {
		snapshot, err := span.ParseSnapshot(text)
		if err != nil || text == "" {
			if text != "" && !snapshot.IsZero() {
				t.Errorf("%q: %v, and yet a snapshot", text, err)
			}
			return
		}
		again, err := span.ParseSnapshot(snapshot.String())
		if err != nil || again.String() != snapshot.String() {
			t.Errorf("%q prints as %q, which reads as %q (%v)", text, snapshot, again, err)
		}
		var sees bool
		if err := conn.QueryRow(t.Context(),
			"select pg_visible_in_snapshot($2::text::xid8, $1::text::pg_snapshot)", text,
			strconv.FormatUint(xact, 10)).Scan(&sees); err != nil {
			t.Fatalf("Postgres refuses %q: %v", text, err)
		}
		if snapshot.Sees(xact) != sees {
			t.Errorf("%q sees %d: %v, in Postgres %v", text, xact, snapshot.Sees(xact), sees)
		}
	})
}

func TestSnapshotRefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0:0:", "5:4:", "1:2", "a:b:", "1:5:9", "1:5:3,2", "1:5:,", "-1:2:",
		"1:2:3:4"} {
		if s, err := span.ParseSnapshot(text); err == nil {
			t.Errorf("%q is read as %s", text, s)
		}
	}
}
