package program_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// witness is a test that hears how Find ends it.
type witness struct {
	testing.TB
	said string
}

func (w *witness) Helper() {}

func (w *witness) Fatal(args ...any) { w.end("fails: ", args) }
func (w *witness) Skip(args ...any)  { w.end("is skipped: ", args) }

func (w *witness) end(how string, args []any) {
	if w.said == "" { // the first one ends a real test
		w.said = how + fmt.Sprint(args...)
	}
}

// A test whose program is missing is skipped with the package's name; in CI, where it should have been
// installed, it fails.
func TestAMissingProgramIsSkippedAndFailsInCI(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("CI", "")
	w := &witness{TB: t}
	program.Lacking(w, "fish", "fish-package")
	if !strings.HasPrefix(w.said, "is skipped: ") || !strings.Contains(w.said, "fish-package") {
		t.Errorf("without CI it %s", w.said)
	}
	w = &witness{TB: t}
	program.Find(w, "no-such-program")
	if !strings.HasPrefix(w.said, "fails: ") {
		t.Errorf("a program that is not in the list %s", w.said)
	}
}

func TestInCIAMissingProgramIsAFailure(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		t.Skip("only root on Debian has its programs installed by make test")
	}
	t.Setenv("CI", "true")
	w := &witness{TB: t}
	program.Lacking(w, "fish", "fish-package")
	if !strings.HasPrefix(w.said, "fails: ") {
		t.Errorf("in CI it %s", w.said)
	}
}
