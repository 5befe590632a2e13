package pages_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
)

const page = "tests/pages/testdata/page.md"

// witness is a test that hears what becomes of it, and ends when it is told to.
type witness struct {
	testing.TB
	atEnd []func()
	said  []string
}

func (w *witness) Helper()           {}
func (w *witness) Cleanup(do func()) { w.atEnd = append(w.atEnd, do) }
func (w *witness) Errorf(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}
func (w *witness) Fatalf(format string, args ...any) { w.Errorf(format, args...) }
func (w *witness) Failed() bool                      { return len(w.said) > 0 }

func TestABlockThatIsLeftIsAnError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		take func(*pages.Set)
		left string
	}{
		{func(s *pages.Set) { s.All() }, ""},
		{func(s *pages.Set) { s.Take("echo one") }, page + ":17"},
		{func(s *pages.Set) { s.Under("Second", 1) }, page + ":5"},
	} {
		w := &witness{TB: t}
		c.take(pages.Marked(w, page))
		for _, do := range w.atEnd {
			do()
		}
		if said := strings.Join(w.said, "\n"); (c.left == "") != (said == "") || !strings.HasPrefix(said, c.left) {
			t.Errorf("it says %q, want %q", said, c.left)
		}
	}
}

func TestABlockHasItsHeadingAndWhatItPrints(t *testing.T) {
	t.Parallel()
	b := pages.Blocks(t, page)[0]
	if b.Heading != "First" || b.Text != "echo one\n" || b.Shows != "one\n" || b.Line != 5 {
		t.Errorf("got %+v", b)
	}
	want := []string{"  echo two\n", "echo three\n"}
	if got := pages.Section(t, page, "Second", "sh"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	w := &witness{TB: t}
	if got := b.With(w, "one", "1"); got != "echo 1\n" || w.Failed() {
		t.Errorf("with 1 in the place of one it is %q, %q", got, w.said)
	}
	if b.With(w, "four", "4"); !w.Failed() {
		t.Error("what is not there is replaced without a word")
	}
}
