package main

import (
	"strings"
	"testing"
)

// A stream as `go test -json` writes it: one test of each fate, and a package that does not build.
const stream = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    a_test.go:9: needs LOGLINE_X: not set\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    a_test.go:12: got 1, want 2\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"--- FAIL: TestC (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
{"Action":"build-output","ImportPath":"q","Output":"q.go:1: undefined: x\n"}
not json
`

const wanted = `    a_test.go:12: got 1, want 2
--- FAIL: TestC (0.00s)
FAIL	p	0.1s
q.go:1: undefined: x
not json
FAIL

1 tests passed, 1 failed, 1 skipped
    skipped p TestB: needs LOGLINE_X: not set
`

func TestReportShowsFailuresAndSkips(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	r.printEnd(1)
	if out.String() != wanted {
		t.Errorf("got\n%s\nwant\n%s", out.String(), wanted)
	}
}

// A panic or a timeout ends the binary before the test's own end comes: what it said must not be lost.
func TestReportShowsWhatAKilledTestSaid(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(&out)
	const killed = `{"Action":"output","Package":"p","Test":"TestD","Output":"panic: boom\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`
	if err := r.read(strings.NewReader(killed)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "panic: boom") {
		t.Errorf("the panic is not shown: %q", out.String())
	}
}

// A pass with a name is counted by itself, and what it skips is not mistaken for the same test elsewhere.
func TestReportCountsPassesWithNames(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(&out)
	for _, name := range []string{"", "Postgres 99"} {
		if name != "" {
			r.begin(name)
		}
		if err := r.read(strings.NewReader(stream)); err != nil {
			t.Fatal(err)
		}
	}
	r.end()
	r.printEnd(1)
	const end = `
2 tests passed, 2 failed, 2 skipped
    Postgres 99: 1 passed, 1 failed, 1 skipped in 0 s
    skipped Postgres 99 TestB: needs LOGLINE_X: not set
    skipped p TestB: needs LOGLINE_X: not set
`
	if !strings.HasSuffix(out.String(), end) {
		t.Errorf("got\n%s\nwant at its end\n%s", out.String(), end)
	}
}
